"""The recipe of an arr-coc pipeline."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from builder.arr_coc.configs import served_configs
from builder.arr_coc.export.decoder import export_decoder
from builder.arr_coc.export.relevance import export_relevance
from builder.arr_coc.export.vision import export_vision
from builder.arr_coc.facts import SourceFacts, load_facts
from builder.arr_coc.key import stage_key
from builder.arr_coc.reference import Reference
from builder.arr_coc.source import ArrCoc, load_checkpoint
from builder.arr_coc.verify.artifacts import Verifier
from builder.arr_coc.verify.pictures import verification_pictures
from builder.cache.verified import make_verified, take_verified
from builder.checkpoint.hub import pinned, resolve_source, source_hashes
from builder.export.tensorrt import build_plan
from builder.recipe import VERSION, Artifact, Made, Workshop
from builder.render.model_config import ModelConfig
from builder.spec.models import Checkpoint, Spec
from builder.targets import runtime_requirements
from builder.verify.measure import ParityRow, artifact_errors

EXPORTS: Final[dict[str, Callable[[ArrCoc, Spec, Path], None]]] = {
    "vision": export_vision,
    "relevance": export_relevance,
    "language": export_decoder,
}
"""Stage -> what writes its artifact."""

_FILES: Final = {"vision": "model.onnx", "relevance": "model.onnx", "language": "decoder.onnx"}


class ArrCocRecipe:
    """Vision, relevance and language, and the ensemble over them."""

    loads = True

    def __init__(self, spec: Spec, base: Path) -> None:
        """Prepare.

        Args:
            spec: The spec.
            base: Folder that its paths are relative to.
        """
        self.spec = spec
        self.base = base

    @cached_property
    def facts(self) -> SourceFacts:
        """What is known of the checkpoint without its weights."""
        return load_facts(self.checkpoint, self.base)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint, held at a commit."""
        return pinned(self.spec.checkpoint, self.base)

    def _stage_names(self) -> dict[str, str]:
        """Stage -> model name."""
        stages = self.spec.stages
        return {stage: getattr(stages, stage).name for stage in type(stages).model_fields}

    def configs(self) -> list[ModelConfig]:
        """Every model config, the ensemble last."""
        return served_configs(self.spec, self.facts, self.base)

    def stages(self) -> Mapping[str, str]:
        """Python model -> folder of its sources."""
        names = self._stage_names()
        return {names[stage]: stage for stage in ("preprocess", "language")}

    def requirements(self) -> list[str]:
        """What the Python stages import."""
        return runtime_requirements(self.spec.target, "pillow>=10", "tokenizers>=0.20")

    def write_files(self, folder: Path) -> None:
        """The tokenizer."""
        for model in self.stages():
            path = folder / model / VERSION / "tokenizer.json"
            self.facts.tokenizer.backend_tokenizer.save(str(path))

    def artifacts(self, models: Collection[str], workshop: Workshop) -> list[Artifact]:
        """The three graphs."""
        names = self._stage_names()
        sources = _Sources(self, workshop)
        return [
            _StageArtifact(names[stage], stage, sources)
            for stage in EXPORTS
            if names[stage] in models
        ]

    def hashes(self) -> dict[str, str]:
        """What the checkpoint is told apart by."""
        return self._hashes

    @cached_property
    def _hashes(self) -> dict[str, str]:
        return source_hashes(resolve_source(self.checkpoint, self.base), self.checkpoint.revision)


class _Sources:
    """What the artifacts of one build share: the weights, loaded once, and the pictures."""

    def __init__(self, recipe: ArrCocRecipe, workshop: Workshop) -> None:
        self.recipe = recipe
        self.workshop = workshop

    @cached_property
    def pictures(self) -> list[bytes]:
        return verification_pictures(self.recipe.spec, self.recipe.base)

    @cached_property
    def loaded(self) -> tuple[ArrCoc, Verifier]:
        recipe = self.recipe
        self.workshop.progress.step("load checkpoint")
        source = load_checkpoint(recipe.checkpoint, recipe.base, recipe.spec.seed, recipe.facts)
        return source, Verifier(Reference(recipe.spec, source), self.pictures)

    def key(self, stage: str) -> str:
        """What the artifact of a stage is found under; empty without a cache."""
        if self.workshop.store is None:
            return ""
        return stage_key(self.recipe.spec, stage, self.recipe.hashes(), self.pictures)


@dataclass(frozen=True)
class _StageArtifact:
    """The graph of one stage."""

    model: str
    stage: str
    sources: _Sources

    def take(self, folder: Path) -> Made | None:
        """From the cache."""
        workshop = self.sources.workshop
        rows = take_verified(workshop.store, self.sources.key(self.stage), folder)
        if rows is None:
            return None
        workshop.progress.step(f"{self.model} from the cache")
        return Made(rows)

    def make(self, folder: Path) -> Made:
        """Export and verify."""
        store, key = self.sources.workshop.store, self.sources.key(self.stage)
        source, verifier = self.sources.loaded
        return Made(make_verified(store, key, folder, lambda: self._made(source, verifier, folder)))

    def _made(self, source: ArrCoc, verifier: Verifier, folder: Path) -> list[ParityRow]:
        path, progress = folder / _FILES[self.stage], self.sources.workshop.progress
        progress.step(f"export {self.model}")
        EXPORTS[self.stage](source, self.sources.recipe.spec, path)
        progress.step(f"verify {self.model}")
        with artifact_errors(self.model):
            return verifier.checks()[self.stage](path)

    def finish(self, folder: Path) -> None:
        """An engine in the place of the vision graph, for target tensorrt."""
        spec = self.sources.recipe.spec
        if spec.target != "tensorrt" or self.stage != "vision":
            return
        stage = spec.stages.vision
        batching = stage.dynamic_batching
        onnx = folder / _FILES[self.stage]
        build_plan(
            onnx,
            folder / "model.plan",
            max_batch_size=stage.max_batch_size,
            precision=spec.precision_of(stage),
            preferred=max((batching.preferred_batch_size if batching else None) or [1]),
        )
        for path in folder.glob(f"{onnx.name}*"):
            path.unlink()
