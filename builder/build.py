"""A build: export, verify, render, validate, publish, in this order."""

import shutil
from collections.abc import Callable
from pathlib import Path

from builder.arr_coc.checkpoint import ArrCoc, load_checkpoint, weight_files
from builder.arr_coc.facts import SourceFacts, load_facts
from builder.arr_coc.reference import Reference
from builder.errors import PublishError, SpecError
from builder.export.decoder import export_decoder
from builder.export.relevance import export_relevance
from builder.export.tensorrt import build_plan
from builder.export.vision import export_vision
from builder.publish.manifest import owned_models, read_manifest, sha256, write_manifest
from builder.publish.staging import staging_folder
from builder.render.model_config import ModelConfig
from builder.render.pipeline import pipeline_configs
from builder.spec.models import Spec
from builder.steps import (
    VERSION,
    BuildReport,
    Progress,
    drift,
    model_sizes,
    require_valid,
    runtime_requirements,
    write_models,
)
from builder.verify.artifacts import Verifier
from builder.verify.measure import ParityRow, artifact_errors, require_parity
from builder.verify.pictures import verification_pictures

_EXPORTS: dict[str, Callable[[ArrCoc, Spec, Path], None]] = {
    "vision": export_vision,
    "relevance": export_relevance,
    "language": export_decoder,
}


def _stage_names(spec: Spec) -> dict[str, str]:
    """Stage -> model name."""
    return {stage: getattr(spec.stages, stage).name for stage in type(spec.stages).model_fields}


def _artifact(stage: str, folder: Path) -> Path:
    return folder / ("decoder.onnx" if stage == "language" else "model.onnx")


def requirements(spec: Spec) -> list[str]:
    """What the Python stages import, for the server's own Python."""
    return runtime_requirements(spec.target, "pillow>=10", "tokenizers>=0.20")


def write_text_files(
    spec: Spec, facts: SourceFacts, origin: str, folder: Path
) -> list[ModelConfig]:
    """Everything but weights and tokenizers: configs, Python stages, requirements.

    Args:
        spec: The spec.
        facts: Facts of its checkpoint.
        origin: Name of the spec file.
        folder: The repository.

    Returns:
        The model configs, the ensemble last.
    """
    configs = pipeline_configs(spec, facts)
    stages = {name: stage for stage, name in _stage_names(spec).items()}
    write_models(configs, stages, requirements(spec), origin, folder)
    return configs


def _selected(spec: Spec, only: str | None, target: Path) -> list[str]:
    """Model names to build anew."""
    names = [*_stage_names(spec).values(), spec.name]
    if only is None:
        return names
    if only not in names:
        raise SpecError(f"--only {only}: the spec has no such model; it has {', '.join(names)}")
    missing = set(names) - {only} - owned_models(target)
    if missing:
        raise PublishError(
            f"--only {only}: {target} has no built '{sorted(missing)[0]}' to go with it; "
            "build everything first"
        )
    return [only]


class Build:
    """One run of the builder."""

    def __init__(self, spec: Spec, spec_path: Path, target: Path, progress: Progress) -> None:
        """Prepare a build.

        Args:
            spec: The spec.
            spec_path: Its file; local paths in it are relative to its folder.
            target: The repository to write.
            progress: Told about each step.
        """
        self._spec = spec
        self._base = spec_path.resolve().parent
        self._origin = spec_path.name
        self._target = target
        self._progress = progress

    def run(self, only: str | None = None) -> BuildReport:
        """Build and publish.

        Args:
            only: Name of one model to build anew; the others stay as they are.

        Raises:
            BuilderError: a step failed; the old repository is untouched.
        """
        selected = _selected(self._spec, only, self._target)
        names = _stage_names(self._spec)
        exported = [stage for stage in _EXPORTS if names[stage] in selected]
        self._progress.start(4 + 2 * len(exported))
        with staging_folder(self._target) as staging:
            self._progress.step("load checkpoint")
            source = load_checkpoint(self._spec.checkpoint, self._base, self._spec.seed)
            self._progress.step("render configs")
            configs = write_text_files(self._spec, source.facts, self._origin, staging.path)
            for config in configs:
                if config.name not in selected:
                    shutil.rmtree(staging.path / config.name)
                    shutil.copytree(self._target / config.name, staging.path / config.name)
            for stage in ("preprocess", "language"):
                if names[stage] in selected:
                    path = staging.path / names[stage] / VERSION / "tokenizer.json"
                    source.facts.tokenizer.backend_tokenizer.save(str(path))
            rows = self._export(source, staging.path, exported)
            self._progress.step("validate")
            require_valid(staging.path, self._spec.triton_release)
            self._progress.step("publish")
            self._write_manifest(staging.path, configs, rows, only)
            carried = staging.publish()
        sizes = model_sizes(self._target, configs)
        return BuildReport(self._target, sizes, rows, carried)

    def _export(self, source: ArrCoc, folder: Path, stages: list[str]) -> list[ParityRow]:
        names = _stage_names(self._spec)
        reference = Reference(self._spec, source)
        verifier = Verifier(reference, verification_pictures(self._spec, self._base))
        rows: list[ParityRow] = []
        for stage in stages:
            path = _artifact(stage, folder / names[stage] / VERSION)
            self._progress.step(f"export {names[stage]}")
            _EXPORTS[stage](source, self._spec, path)
            self._progress.step(f"verify {names[stage]}")
            with artifact_errors(names[stage]):
                rows += verifier.checks()[stage](path)
        require_parity(rows)
        if self._spec.target == "tensorrt" and "vision" in stages:
            self._plan(folder / names["vision"] / VERSION)
        return rows

    def _plan(self, folder: Path) -> None:
        stage = self._spec.stages.vision
        batching = stage.dynamic_batching
        preferred = max((batching.preferred_batch_size if batching else None) or [1])
        onnx = _artifact("vision", folder)
        build_plan(
            onnx,
            folder / "model.plan",
            max_batch_size=stage.max_batch_size,
            precision=self._spec.precision_of(stage),
            preferred=preferred,
        )
        for path in folder.glob(f"{onnx.name}*"):
            path.unlink()

    def _write_manifest(
        self, folder: Path, configs: list[ModelConfig], rows: list[ParityRow], only: str | None
    ) -> None:
        parity = [row.as_dict() for row in rows]
        if only is not None:
            old = read_manifest(self._target).get("parity", [])
            parity += [row for row in old if row.get("artifact") != only]
        files = weight_files(self._spec.checkpoint, self._base)
        write_manifest(
            folder,
            models=[config.name for config in configs],
            spec=self._spec.model_dump(mode="json"),
            source={path.name: sha256(path) for path in files},
            parity=parity,
        )


def rendered_drift(spec: Spec, spec_path: Path, target: Path, scratch: Path) -> list[str]:
    """Files of a repository that differ from what the spec renders today.

    Args:
        spec: The spec.
        spec_path: Its file.
        target: The repository to compare.
        scratch: An empty folder to render into.

    Returns:
        Paths relative to the repository.
    """
    facts = load_facts(spec.checkpoint, spec_path.resolve().parent)
    write_text_files(spec, facts, spec_path.name, scratch)
    return drift(scratch, target)


__all__ = ["Build", "BuildReport", "Progress", "rendered_drift", "requirements", "write_text_files"]
