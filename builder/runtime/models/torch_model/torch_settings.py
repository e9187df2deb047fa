"""Settings of the stage `torch_model`."""

from dataclasses import dataclass
from typing import Any

from ..common.settings import GraphSettings


@dataclass(frozen=True)
class TorchSettings(GraphSettings):
    """How a checkpoint is run. Where shapes are not dynamic, a smaller batch is filled up to one of
    `warmup_batch_sizes`.

    Attributes:
        auto_class: `AutoModelFor...` that reads it.
        head: What is served of its output, a key of `heads.HEADS`.
        head_parameters: Arguments of the head.
        attention: `sdpa` or `eager`.
        compile_mode: Mode of torch.compile; empty: not compiled.
        dynamic: One compiled graph for every shape; else one for each.
        freeze: Weights are constants of the compiled graph, packed for the processor.
    """

    auto_class: str
    head: str
    head_parameters: dict[str, Any]
    attention: str
    compile_mode: str
    dynamic: bool
    freeze: bool
