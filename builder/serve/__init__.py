"""The local `tritonserver` process."""

from builder.serve.server import TritonServer

__all__ = ["TritonServer"]
