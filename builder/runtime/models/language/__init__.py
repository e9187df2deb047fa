"""The language stage: kept visual tokens and prompt to a stream of text."""
