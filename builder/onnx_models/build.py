"""The build of an ONNX file: check, fit to the release, verify, render, validate, publish."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from builder.errors import CheckpointError, SpecError
from builder.onnx_models.config import model_config
from builder.onnx_models.examples import Example, find_example
from builder.onnx_models.fit import write_fitted
from builder.onnx_models.parity import verify, why_not_batched
from builder.onnx_models.process import Bounds, run_bounded
from builder.onnx_models.ranges import integer_ranges
from builder.onnx_models.signature import GraphTensor, read_signature
from builder.onnx_models.source import Level, OnnxSource, open_session, open_source
from builder.publish.manifest import sha256, write_manifest
from builder.publish.staging import staging_folder
from builder.render.model_config import ModelConfig
from builder.spec.onnx_file import OnnxSpec, OnnxTensor
from builder.spec.releases import onnx_limits
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
from builder.verify.measure import ParityRow, artifact_errors, require_parity

_LEVELS = {
    "all": Level.ORT_ENABLE_ALL,
    "extended": Level.ORT_ENABLE_EXTENDED,
    "basic": Level.ORT_ENABLE_BASIC,
    "off": Level.ORT_DISABLE_ALL,
}


def write_onnx_files(spec: OnnxSpec, origin: str, folder: Path) -> list[ModelConfig]:
    """Everything but the ONNX file; the model config."""
    configs = [model_config(spec)]
    write_models(configs, {}, runtime_requirements(spec.target), origin, folder)
    return configs


def onnx_drift(spec: OnnxSpec, origin: str, target: Path, scratch: Path) -> list[str]:
    """Files of a repository that differ from what the spec renders today, as relative paths."""
    write_onnx_files(spec, origin, scratch)
    return drift(scratch, target)


class OnnxBuild:
    """One run of the builder."""

    def __init__(self, spec: OnnxSpec, spec_path: Path, target: Path, progress: Progress) -> None:
        """Prepare a build.

        Args:
            spec: The spec.
            spec_path: Its file; local paths in it are relative to its folder.
            target: The repository to write.
            progress: Told about each step.
        """
        self._spec = spec
        self._path = spec_path.resolve().parent / spec.onnx.path
        self._origin = spec_path.name
        self._target = target
        self._progress = progress

    def run(self, only: str | None = None) -> BuildReport:
        """Build and publish.

        Args:
            only: The model's name, the only one that there is.

        Raises:
            BuilderError: a step failed; the old repository is untouched.
        """
        spec, progress = self._spec, self._progress
        if only not in (None, spec.name):
            raise SpecError(f"--only {only}: the spec has no such model; it has {spec.name}")
        progress.start(5)
        progress.step(f"check {self._path.name}")
        source = self._open()
        with staging_folder(self._target) as staging:
            progress.step("render configs")
            configs = write_onnx_files(spec, self._origin, staging.path)
            progress.step(f"verify {spec.name}")
            folder = staging.path / spec.name / VERSION
            write_fitted(
                source,
                spec.outputs,
                onnx_limits(spec.triton_release),
                folder,
                batched=bool(spec.model.max_batch_size),
            )
            rows = self._verify(folder / "model.onnx")
            require_parity(rows)
            progress.step("validate")
            require_valid(staging.path, spec.triton_release)
            progress.step("publish")
            write_manifest(
                staging.path,
                models=[spec.name],
                spec=spec.model_dump(mode="json"),
                source=source.hashes(),
                parity=[row.as_dict() for row in rows],
            )
            carried = staging.publish()
        return BuildReport(self._target, model_sizes(self._target, configs), rows, carried)

    def _open(self) -> OnnxSource:
        source = open_source(self._path)
        wanted = self._spec.onnx.sha256
        if wanted and sha256(self._path) != wanted:
            raise CheckpointError(
                f"{self._path} is not the file that the spec was written for (sha256 differs); "
                "run builder init again, or remove onnx: sha256"
            )
        source.check()
        known = [value.name for value in source.model.graph.output]
        for tensor in self._spec.outputs:
            if tensor.name not in known:
                raise SpecError(
                    f"outputs: {self._path.name} has no output '{tensor.name}'; it has "
                    f"{', '.join(known)}"
                )
        return source

    def _verify(self, published: Path) -> list[ParityRow]:
        wanted = self._spec.verify
        bounds = Bounds.of(self._path, wanted.seconds, wanted.memory_gib)
        call = f"{__name__}:verified_rows"
        rows: list[ParityRow] = run_bounded(call, self._path, bounds, published, self._spec)
        return rows


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
        served = open_session(published, _LEVELS[spec.model.onnxruntime.graph_optimization])
    signature = read_signature(original, str(path))
    batched = bool(spec.model.max_batch_size)
    known = (*signature.inputs, *signature.optional)
    tensors = tuple(_merged(spec.inputs, known, batched=batched))
    missing = {t.name for t in signature.inputs} - {t.name for t in tensors}
    if missing:
        raise SpecError(f"inputs: the graph's input '{min(missing)}' is missing; add it")
    _check_outputs(spec, read_signature(served, spec.name).outputs, batched=batched)
    fed = tuple(tensor for tensor in tensors if not tensor.optional)
    example = _example(spec, source, original, fed)
    outputs = [tensor.name for tensor in spec.outputs]
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
    found = {tensor.name: tensor for tensor in known}
    for tensor in spec.outputs:
        if tensor.name not in found:
            raise SpecError(
                f"outputs: '{tensor.name}' is of a type that Triton can't serve; leave it out"
            )
        own = found[tensor.name].spec(batched=batched)
        if own.dims != tensor.dims or own.data_type != tensor.data_type:
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
    wanted: Iterable[OnnxTensor], known: Iterable[GraphTensor], *, batched: bool
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
