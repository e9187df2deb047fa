"""The artifacts of the arr-coc stages: source model to ONNX."""
