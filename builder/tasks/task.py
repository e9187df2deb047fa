"""What a task must say of itself, so that one build serves every task."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray
from torch import nn

from builder.checkpoint.files import CheckpointFiles
from builder.render.model_config import ModelConfig, Tensor
from builder.spec.releases import OnnxLimits
from builder.spec.task import TaskSpec
from builder.verify.measure import ParityRow

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Sample:
    """One batch that an artifact is verified with.

    Attributes:
        inputs: What the graph gets, as the served stages make it (padding included).
        wanted: What the source model says of the same rows, computed without their padding.
        valid: Output -> bool mask of the leading dims that count; left out: all.
    """

    inputs: Arrays
    wanted: Arrays
    valid: Arrays = field(default_factory=dict)

    @property
    def batch(self) -> int:
        """Rows of the batch."""
        return int(next(iter(self.inputs.values())).shape[0])


@dataclass(frozen=True)
class Origin:
    """Where a graph comes from, for an exporter that reads checkpoints instead of modules.

    Attributes:
        folder: The checkpoint on disk.
        task: transformers' name of its task.
    """

    folder: Path
    task: str


@dataclass(frozen=True)
class Graph:
    """One graph that is exported and served.

    Attributes:
        name: Name of its model in the repository.
        module: What is exported: keyword arguments named as `inputs`, a tensor or a tuple in the
            order of `outputs`; eval mode, fp32.
        inputs: Tensors without the batch dim; dims of -1 vary.
        outputs: The same.
        axes: Input -> dim (the batch dim is 0) -> name of the axis; equal names vary together.
        example: Inputs that are traced with; varying dims at least 2 and different.
        samples: Makes what it is verified with; called once.
        origin: The checkpoint whose model is `module.model`; None: it is a part of one.
    """

    name: str
    module: nn.Module
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    axes: Mapping[str, Mapping[int, str]]
    example: Mapping[str, Any]
    samples: Callable[[], Iterable[Sample]]
    origin: Origin | None = None


@dataclass(frozen=True)
class Artifact:
    """Files beside a Python stage that a task exports and verifies itself, a decoder for instance.

    Attributes:
        name: Name of the stage's model in the repository.
        export: Writes the files into the model's version folder.
        verify: Compares them with the checkpoint; a row a batch size.
    """

    name: str
    export: Callable[[Path, OnnxLimits], None]
    verify: Callable[[Path], list[ParityRow]]


@dataclass(frozen=True)
class Description:
    """What a checkpoint is, for the person who reads its spec.

    Attributes:
        architecture: Class name or model type.
        inputs: The ensemble's inputs.
        outputs: Its outputs.
        graph_inputs: Inputs of the graph behind it.
        graph_outputs: Its outputs.
        buckets: Sequence lengths that texts are padded to; none: no text.
        template: Template of the spec that `builder init` writes.
        settings: What that template shows beside this.
    """

    architecture: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    graph_inputs: tuple[Tensor, ...]
    graph_outputs: tuple[Tensor, ...]
    buckets: tuple[int, ...] = ()
    template: str = "task.yaml.j2"
    settings: Mapping[str, Any] = field(default_factory=dict)


class Task(Protocol):
    """One task over one checkpoint; made by `registry.task_of`, which reads no weights."""

    files: CheckpointFiles
    """The checkpoint."""

    def describe(self) -> Description:
        """What `builder init` writes into a spec."""

    def configs(self) -> list[ModelConfig]:
        """Every model config, in the order of the stages, the ensemble last."""

    def stages(self) -> dict[str, str]:
        """Name of a Python model -> folder of its sources in `builder/runtime/models`."""

    def requirements(self) -> list[str]:
        """What the Python stages import."""

    def write_files(self, folder: Path) -> None:
        """Write tokenizers and the like into a repository that has its model folders."""

    def graphs(self) -> list[Graph]:
        """Load the weights, safetensors only; the graphs of the repository."""


@runtime_checkable
class WithArtifacts(Protocol):
    """A task that has more than graphs."""

    def artifacts(self) -> list[Artifact]:
        """What it exports itself; no weights are read before one is exported."""


TaskFactory = Callable[[TaskSpec, CheckpointFiles], Task]
"""Spec and its opened checkpoint -> its task.

Raises CheckpointError or SpecError where the checkpoint can't do the task.
"""
