"""The recipe of a task model: one checkpoint, raw input in, answer out."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from builder.recipe import Artifact, Made, Workshop
from builder.render.model_config import ModelConfig
from builder.spec.engines import OpenVino
from builder.spec.task import TaskSpec
from builder.tasks.artifacts import FILE, ArtifactMaker
from builder.tasks.engines import (
    engine_requirements,
    engine_stages,
    openvino_run,
    save_checkpoint,
    torch_run,
)
from builder.tasks.parity import verify_run
from builder.tasks.registry import task_of
from builder.tasks.settings import served_configs
from builder.tasks.task import Artifact as OwnArtifact
from builder.tasks.task import Graph, Task, WithArtifacts
from builder.verify.measure import ParityRow, artifact_errors


class TaskRecipe:
    """Stages around the graph of a task, and the ensemble over them."""

    loads = True

    def __init__(self, spec: TaskSpec, base: Path) -> None:
        """Prepare.

        Args:
            spec: The spec.
            base: Folder that its paths are relative to.
        """
        self.spec = spec
        self.base = base

    @cached_property
    def task(self) -> Task:
        """The task over its checkpoint; no weights are read."""
        return task_of(self.spec, self.base)

    def configs(self) -> list[ModelConfig]:
        """Every model config, the ensemble last."""
        return served_configs(self.task, self.spec, self.base)

    def stages(self) -> Mapping[str, str]:
        """Python model -> folder of its sources."""
        return engine_stages(self.task, self.spec)

    def requirements(self) -> list[str]:
        """What the Python stages import."""
        return engine_requirements(self.task, self.spec)

    def write_files(self, folder: Path) -> None:
        """Tokenizers and the like."""
        self.task.write_files(folder)

    def artifacts(self, models: Collection[str], workshop: Workshop) -> list[Artifact]:
        """The graphs, and what the task exports itself."""
        task, own = self.task, self.task.stages()
        maker = ArtifactMaker(self.spec, self.base, task, workshop.store, workshop.progress)
        source = _Graphs(self, workshop)
        graphs: list[Artifact] = [
            _GraphArtifact(config.name, config, maker, source)
            for config in task.configs()
            if config.name in models and config.name not in own and config.name != self.spec.name
        ]
        others = task.artifacts() if isinstance(task, WithArtifacts) else []
        return graphs + [_Own(one.name, one, maker) for one in others if one.name in models]

    def hashes(self) -> dict[str, str]:
        """What the checkpoint is told apart by."""
        return self.task.files.hashes()


class _Graphs:
    """The graphs of one build; the weights are loaded once, when the first is made."""

    def __init__(self, recipe: TaskRecipe, workshop: Workshop) -> None:
        self.recipe = recipe
        self.progress = workshop.progress

    @cached_property
    def by_name(self) -> dict[str, Graph]:
        self.progress.step("load checkpoint")
        return {graph.name: graph for graph in self.recipe.task.graphs()}

    @cached_property
    def configs(self) -> dict[str, ModelConfig]:
        return {config.name: config for config in self.recipe.configs()}


@dataclass(frozen=True)
class _GraphArtifact:
    """A graph on the engine of the spec."""

    model: str
    config: ModelConfig
    maker: ArtifactMaker
    source: _Graphs

    @property
    def _spec(self) -> TaskSpec:
        return self.source.recipe.spec

    def take(self, folder: Path) -> Made | None:
        """From the cache, which has finished graphs of ONNX Runtime."""
        if self._spec.model.engine != "onnxruntime":
            return None
        return self.maker.take(self.model, folder)

    def make(self, folder: Path) -> Made:
        """Export, optimize and verify."""
        graph = self.source.by_name[self.model]
        if self._spec.model.engine == "onnxruntime":
            return self.maker.make(graph, folder)
        return Made(self._on_engine(graph, folder))

    def _on_engine(self, graph: Graph, folder: Path) -> list[ParityRow]:
        model, path, progress = self._spec.model, folder / FILE, self.source.progress
        if model.engine == "torch":
            progress.step(f"export {graph.name}")
            save_checkpoint(graph, folder)
        else:
            self.maker.export(graph, path)
        progress.step(f"verify {graph.name}")
        samples = list(graph.samples())
        with artifact_errors(graph.name):
            if model.engine == "openvino":
                run = openvino_run(path, model.openvino or OpenVino())
            else:
                run = torch_run(folder, self.source.configs[self.model])
            return verify_run(graph.name, run, samples, self._spec.tolerance)

    def finish(self, folder: Path) -> None:
        """Nothing."""


@dataclass(frozen=True)
class _Own:
    """What a task exports and verifies itself, a decoder for instance."""

    model: str
    artifact: OwnArtifact
    maker: ArtifactMaker

    def take(self, folder: Path) -> Made | None:
        """From the cache."""
        return self.maker.take_own(self.artifact, folder)

    def make(self, folder: Path) -> Made:
        """Export and verify."""
        return self.maker.make_own(self.artifact, folder)

    def finish(self, folder: Path) -> None:
        """Nothing."""
