"""The preprocess stage: encoded picture and question to pixels and token ids."""
