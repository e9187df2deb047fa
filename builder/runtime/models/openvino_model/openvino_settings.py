"""Settings of the stage `openvino_model`."""

from dataclasses import dataclass

from ..common.settings import GraphSettings


@dataclass(frozen=True)
class OpenVinoSettings(GraphSettings):
    """How OpenVINO runs a graph.

    Attributes:
        precision: `fp32` or `bf16`: what the arithmetic is done in.
    """

    precision: str
