"""A build: export, verify, render, validate, publish, in this order."""

import shutil
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path

from builder.arr_coc.checkpoint import ArrCoc, load_checkpoint, source_hashes
from builder.arr_coc.facts import SourceFacts, load_facts, pinned, resolve_source
from builder.arr_coc.reference import Reference
from builder.cache.stages import stage_key
from builder.cache.store import Store
from builder.cache.verified import make_verified, take_verified
from builder.export.decoder import export_decoder
from builder.export.relevance import export_relevance
from builder.export.tensorrt import build_plan
from builder.export.vision import export_vision
from builder.publish.manifest import read_manifest, write_manifest
from builder.publish.staging import staging_folder
from builder.render.model_config import ModelConfig
from builder.render.pipeline import pipeline_configs
from builder.spec.models import Checkpoint, Spec
from builder.steps import (
    VERSION,
    BuildReport,
    Progress,
    drift,
    model_sizes,
    require_valid,
    runtime_requirements,
    selected_models,
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


class Build:
    """One run of the builder."""

    def __init__(
        self,
        spec: Spec,
        spec_path: Path,
        target: Path,
        progress: Progress,
        store: Store | None = None,
    ) -> None:
        """Prepare a build.

        Args:
            spec: The spec.
            spec_path: Its file; local paths in it are relative to its folder.
            target: The repository to write.
            progress: Told about each step.
            store: The cache of artifacts; None: everything is made anew.
        """
        self._store = store
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
        names = _stage_names(self._spec)
        selected = selected_models([*names.values(), self._spec.name], only, self._target)
        exported = [stage for stage in _EXPORTS if names[stage] in selected]
        self._progress.start(4 + 2 * len(exported))
        with staging_folder(self._target) as staging:
            self._progress.step("render configs")
            facts = load_facts(self._checkpoint, self._base)
            configs = write_text_files(self._spec, facts, self._origin, staging.path)
            for config in configs:
                if config.name not in selected:
                    shutil.rmtree(staging.path / config.name)
                    shutil.copytree(self._target / config.name, staging.path / config.name)
            for stage in ("preprocess", "language"):
                if names[stage] in selected:
                    path = staging.path / names[stage] / VERSION / "tokenizer.json"
                    facts.tokenizer.backend_tokenizer.save(str(path))
            rows = self._artifacts(facts, staging.path, exported)
            self._progress.step("validate")
            require_valid(staging.path, self._spec.triton_release)
            self._progress.step("publish")
            self._write_manifest(staging.path, configs, rows, only)
            carried = staging.publish()
        sizes = model_sizes(self._target, configs)
        return BuildReport(self._target, sizes, rows, carried)

    def _artifacts(self, facts: SourceFacts, folder: Path, stages: list[str]) -> list[ParityRow]:
        """Write the artifacts of stages, those from the cache that are there; their parity."""
        spec, names = self._spec, _stage_names(self._spec)
        folders = {stage: folder / names[stage] / VERSION for stage in stages}
        pictures = verification_pictures(spec, self._base)
        store = self._store
        keys = {
            stage: stage_key(spec, stage, self._hashes, pictures) if store else ""
            for stage in stages
        }
        found = {stage: take_verified(store, keys[stage], folders[stage]) for stage in stages}
        for stage in stages:
            if found[stage] is not None:
                self._progress.step(f"{names[stage]} from the cache")
        missing = [stage for stage in stages if found[stage] is None]
        if missing:
            self._progress.step("load checkpoint")
            source = load_checkpoint(self._checkpoint, self._base, spec.seed, facts)
            verifier = Verifier(Reference(spec, source), pictures)
            for stage in missing:
                make = partial(self._export, stage, source, verifier, folders[stage])
                found[stage] = make_verified(store, keys[stage], folders[stage], make)
        every = [row for stage in stages for row in found[stage] or []]
        require_parity(every)
        if spec.target == "tensorrt" and "vision" in stages:
            self._plan(folders["vision"])
        return every

    def _export(
        self, stage: str, source: ArrCoc, verifier: Verifier, folder: Path
    ) -> list[ParityRow]:
        name, path = _stage_names(self._spec)[stage], _artifact(stage, folder)
        self._progress.step(f"export {name}")
        _EXPORTS[stage](source, self._spec, path)
        self._progress.step(f"verify {name}")
        with artifact_errors(name):
            return verifier.checks()[stage](path)

    @cached_property
    def _checkpoint(self) -> Checkpoint:
        return pinned(self._spec.checkpoint, self._base)

    @cached_property
    def _hashes(self) -> dict[str, str]:
        """What the checkpoint is told apart by."""
        checkpoint = self._checkpoint
        return source_hashes(resolve_source(checkpoint, self._base), checkpoint.revision)

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
        write_manifest(
            folder,
            models=[config.name for config in configs],
            spec=self._spec.model_dump(mode="json"),
            source=self._hashes,
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
