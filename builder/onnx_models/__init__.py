"""ONNX files that others made: read, checked, fitted to a release, verified, published.

`source` opens a file, `signature` tells its tensors, `examples` makes inputs that it runs with,
`fit` brings it to a release's opset and IR, `build` goes through the steps. See docs/tasks.md.
"""
