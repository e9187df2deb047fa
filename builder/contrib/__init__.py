"""Contrib operators of ONNX Runtime as torch functions, which the exporter translates."""
