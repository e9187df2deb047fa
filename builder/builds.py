"""Which build a spec of each kind takes."""

from pathlib import Path
from typing import Protocol

from builder.arr_coc.facts import load_facts
from builder.build import Build, rendered_drift, write_text_files
from builder.cache.store import Store
from builder.onnx_models.build import OnnxBuild, onnx_drift, write_onnx_files
from builder.render.model_config import ModelConfig
from builder.spec.models import Spec
from builder.spec.onnx_file import OnnxSpec
from builder.spec.task import TaskSpec
from builder.steps import BuildReport, Progress
from builder.tasks.build import TaskBuild, task_drift, write_task_files

AnySpec = Spec | TaskSpec | OnnxSpec


class AnyBuild(Protocol):
    """One run of the builder."""

    def run(self, only: str | None = None) -> BuildReport:
        """Build and publish; `only` names one model to build anew."""


def build_of(
    spec: AnySpec,
    spec_path: Path,
    target: Path,
    progress: Progress,
    store: Store | None = None,
) -> AnyBuild:
    """The build of a spec.

    Args:
        spec: The spec.
        spec_path: Its file; local paths in it are relative to its folder.
        target: The repository to write.
        progress: Told about each step.
        store: The cache of artifacts, for the builds that have one; None: all is made anew.
    """
    if isinstance(spec, TaskSpec):
        return TaskBuild(spec, spec_path, target, progress, store)
    if isinstance(spec, OnnxSpec):
        return OnnxBuild(spec, spec_path, target, progress)
    return Build(spec, spec_path, target, progress, store)


def render_to(spec: AnySpec, spec_path: Path, folder: Path) -> list[ModelConfig]:
    """Everything but weights and tokenizers; the model configs, the ensemble last."""
    if isinstance(spec, TaskSpec):
        return write_task_files(spec, spec_path, folder)
    if isinstance(spec, OnnxSpec):
        return write_onnx_files(spec, spec_path.name, folder)
    facts = load_facts(spec.checkpoint, spec_path.resolve().parent)
    return write_text_files(spec, facts, spec_path.name, folder)


def drift_of(spec: AnySpec, spec_path: Path, target: Path, scratch: Path) -> list[str]:
    """Files of `target` that differ from what the spec renders today, as relative paths.

    Args:
        spec: The spec.
        spec_path: Its file.
        target: The repository to compare.
        scratch: An empty folder to render into.
    """
    if isinstance(spec, TaskSpec):
        return task_drift(spec, spec_path, target, scratch)
    if isinstance(spec, OnnxSpec):
        return onnx_drift(spec, spec_path.name, target, scratch)
    return rendered_drift(spec, spec_path, target, scratch)
