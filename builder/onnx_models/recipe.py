"""The recipe of an ONNX file: it is checked, fitted to the release and verified."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from builder.errors import CheckpointError, SpecError
from builder.onnx_models.config import graph_level, model_config
from builder.onnx_models.examples import Example, find_example
from builder.onnx_models.fit import write_fitted
from builder.onnx_models.parity import verify, why_not_batched
from builder.onnx_models.process import Bounds, run_bounded
from builder.onnx_models.ranges import integer_ranges
from builder.onnx_models.served import (
    cut_outputs,
    is_ragged,
    kept_outputs,
    made_tensors,
    require_flat,
)
from builder.onnx_models.signature import GraphTensor, read_signature
from builder.onnx_models.source import Level, OnnxSource, open_session, open_source
from builder.publish.manifest import sha256
from builder.recipe import Artifact, Made, Workshop
from builder.render.model_config import ModelConfig
from builder.spec.onnx_file import OnnxInput, OnnxSpec
from builder.spec.releases import onnx_limits
from builder.targets import runtime_requirements
from builder.verify.measure import ParityRow, artifact_errors

_LEVELS = {
    0: Level.ORT_ENABLE_ALL,
    1: Level.ORT_ENABLE_EXTENDED,
    -1: Level.ORT_ENABLE_BASIC,
    2: Level.ORT_DISABLE_ALL,
}
"""Triton's optimization.graph.level -> ONNX Runtime's."""


class OnnxRecipe:
    """One ONNX file that becomes one model."""

    loads = True
    """It is checked before anything is made of it."""

    def __init__(self, spec: OnnxSpec, base: Path) -> None:
        """Prepare.

        Args:
            spec: The spec.
            base: Folder that its paths are relative to.
        """
        self.spec = spec
        self._base = base
        self._path = base / spec.onnx.path

    def configs(self) -> list[ModelConfig]:
        """The model's config."""
        return [model_config(self.spec, self._base)]

    def stages(self) -> Mapping[str, str]:
        """None."""
        return {}

    def requirements(self) -> list[str]:
        """What a server without the native backend imports."""
        return runtime_requirements(self.spec.target)

    def write_files(self, folder: Path) -> None:
        """Nothing."""

    def artifacts(self, models: Collection[str], workshop: Workshop) -> list[Artifact]:
        """The file."""
        return [_FileArtifact(self.spec.name, self, workshop)] if self.spec.name in models else []

    def hashes(self) -> dict[str, str]:
        """The file, and what lies beside it."""
        return self._source.hashes()

    def fit(self, folder: Path) -> None:
        """Write the file as the release loads it.

        Raises:
            BuilderError: it is not what the spec says, or the release can't load it.
        """
        spec = self.spec
        write_fitted(
            self._source,
            kept_outputs(spec),
            onnx_limits(spec.triton_release),
            folder,
            batched=bool(spec.model.max_batch_size),
            cpu=spec.target == "cpu",
        )

    def verify(self, published: Path) -> list[ParityRow]:
        """Parity of the file as it is served with the source, from a process of its own."""
        wanted = self.spec.verify
        bounds = Bounds.of(self._path, wanted.seconds, wanted.memory_gib)
        call = f"{__name__}:verified_rows"
        rows: list[ParityRow] = run_bounded(call, self._path, bounds, published, self.spec)
        return rows

    @cached_property
    def _source(self) -> OnnxSource:
        return self._open()

    def _open(self) -> OnnxSource:
        source = open_source(self._path)
        wanted = self.spec.onnx.sha256
        if wanted and sha256(self._path) != wanted:
            raise CheckpointError(
                f"{self._path} is not the file that the spec was written for (sha256 differs); "
                "run builder init again, or remove onnx: sha256"
            )
        source.check()
        known = [value.name for value in source.model.graph.output]
        for tensor in kept_outputs(self.spec):
            if tensor.name not in known:
                raise SpecError(
                    f"outputs: {self._path.name} has no output '{tensor.name}'; it has "
                    f"{', '.join(known)}"
                )
        return source


def verified_rows(path: Path, published: Path, spec: OnnxSpec) -> list[ParityRow]:
    """Parity of what is published with its source; for a process of its own.

    Args:
        path: The source.
        published: The file in the staged repository.
        spec: The spec.

    Raises:
        BuilderError: one of them does not run, or the spec does not suit them.
    """
    source = open_source(path)
    source.check_whole()
    original = open_session(path, Level.ORT_DISABLE_ALL)
    with artifact_errors(spec.name):
        served = open_session(published, _LEVELS[graph_level(spec.model)])
    signature = read_signature(original, str(path))
    batched = bool(spec.model.max_batch_size)
    known = (*signature.inputs, *signature.optional)
    made = made_tensors(spec, signature)
    tensors = (*_merged(spec.inputs, known, batched=batched), *made)
    missing = {t.name for t in signature.inputs} - {t.name for t in tensors}
    if missing:
        raise SpecError(f"inputs: the graph's input '{min(missing)}' is missing; add it")
    _check_outputs(spec, read_signature(served, spec.name).outputs, batched=batched)
    fed = tuple(tensor for tensor in tensors if not tensor.optional)
    example = _example(spec, source, original, fed)
    outputs = [tensor.name for tensor in kept_outputs(spec)]
    batched &= not is_ragged(spec)
    if batched:
        why_not = why_not_batched(served, example, outputs)
        if why_not:
            raise SpecError(
                f"max_batch_size {spec.model.max_batch_size}: requests can't be joined, "
                f"{why_not}; set max_batch_size: 0 and write the first dim into dims"
            )
    rows = [1, 2, 5] if batched else [None]
    return verify(
        spec.name,
        original,
        served,
        example,
        outputs,
        [row for row in rows if row is None or row <= spec.model.max_batch_size],
        spec.tolerance,
        random=spec.verify.random,
    )


def _check_outputs(spec: OnnxSpec, known: tuple[GraphTensor, ...], *, batched: bool) -> None:
    """Triton wants the dims of outputs to be exactly the ones of the session."""
    found, cut = {tensor.name: tensor for tensor in known}, cut_outputs(spec)
    for tensor in kept_outputs(spec):
        if tensor.name not in found:
            raise SpecError(
                f"outputs: '{tensor.name}' is of a type that Triton can't serve; leave it out"
            )
        own = found[tensor.name].spec(batched=batched)
        free = tensor.name in cut
        if (own.dims != tensor.dims and not free) or own.data_type != tensor.data_type:
            raise SpecError(
                f"output '{tensor.name}' is {own.data_type} {own.dims} in the graph, not "
                f"{tensor.data_type} {tensor.dims}; write that into the spec"
            )


def _example(
    spec: OnnxSpec, source: OnnxSource, session: Any, tensors: tuple[GraphTensor, ...]
) -> Example:
    integers = [tensor.name for tensor in tensors if "INT" in tensor.data_type]
    ranges = {**integer_ranges(source.model, integers), **spec.verify.ranges}
    return find_example(session, tensors, spec.verify.dims, ranges, str(source.path))


def _merged(
    wanted: Iterable[OnnxInput], known: Iterable[GraphTensor], *, batched: bool
) -> Iterable[GraphTensor]:
    """The graph's inputs with the sizes that the spec gives their free dims."""
    graph = {tensor.name: tensor for tensor in known}
    for tensor in wanted:
        found = graph.get(tensor.name)
        if found is None:
            raise SpecError(
                f"inputs: the graph has no input '{tensor.name}' that Triton can serve; it has "
                f"{', '.join(graph)}"
            )
        if tensor.allow_ragged_batch and found.data_type == tensor.data_type:
            require_flat(found)
            yield found
            continue
        own = found.dims[1 if batched else 0 :]
        if len(own) != len(tensor.dims) or found.data_type != tensor.data_type:
            raise SpecError(
                f"input '{tensor.name}' is {found.data_type} {list(own)} in the graph"
                f"{' (without the batch dim)' if batched else ''}, not {tensor.data_type} "
                f"{tensor.dims}"
            )
        dims = [
            theirs if ours == -1 else ours for ours, theirs in zip(tensor.dims, own, strict=True)
        ]
        yield replace(
            found,
            dims=(*found.dims[: 1 if batched else 0], *dims),
            optional=tensor.optional,
        )


@dataclass(frozen=True)
class _FileArtifact:
    """The file as the server loads it."""

    model: str
    recipe: OnnxRecipe
    workshop: Workshop

    def take(self, folder: Path) -> Made | None:
        """Never: it is copied as fast as it would be found."""
        return None

    def make(self, folder: Path) -> Made:
        """Fit and verify."""
        progress = self.workshop.progress
        progress.step(f"check {self.recipe.spec.onnx.path}")
        self.recipe.hashes()
        progress.step(f"fit {self.model}")
        self.recipe.fit(folder)
        progress.step(f"verify {self.model}")
        return Made(self.recipe.verify(folder / "model.onnx"))

    def finish(self, folder: Path) -> None:
        """Nothing."""
