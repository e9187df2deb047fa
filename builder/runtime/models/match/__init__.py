"""The last stage of zero-shot image classification: labels to texts, texts to scores."""
