"""A stage that runs `model.onnx` with OpenVINO."""
