"""The tokenizer stage of a task model: texts to padded token ids."""
