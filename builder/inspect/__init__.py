"""What a model repository holds: its models, and the graphs of its ensembles."""

from builder.inspect.graph import EnsembleGraph, graph_of
from builder.inspect.repository import ModelInfo, TensorInfo, read_repository
from builder.inspect.svg import graphs_svg

__all__ = [
    "EnsembleGraph",
    "ModelInfo",
    "TensorInfo",
    "graph_of",
    "graphs_svg",
    "read_repository",
]
