"""An ONNX file: opened, checked, with the files that hold its weights."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
from google.protobuf.message import DecodeError

from builder.errors import CheckpointError
from builder.onnx_models.process import said
from builder.publish.manifest import sha256

Level = ort.GraphOptimizationLevel

_STANDARD = ("", "ai.onnx")
_RUNTIME_DOMAINS = frozenset(
    {"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc"}
)
"""Domains of ops that ONNX Runtime has without a library of custom ops."""

_UNKNOWN_OP = re.compile(
    r"implementation for (?P<a>[\w.]+\(\d+\))|"
    r"(?P<b>[\w.:]+)\(-?\d+\) is not a registered|"
    r"No Op registered for (?P<c>\w+)"
)


def nodes_of(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph and of the graphs inside them."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from nodes_of(attribute.g)
            for inner in attribute.graphs:
                yield from nodes_of(inner)


def initializers_of(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """The initializers of a graph and of the graphs inside it, constants included."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
            for inner in (attribute.g, *attribute.graphs):
                yield from initializers_of(inner)


def open_session(path: Path, level: Any = Level.ORT_ENABLE_ALL) -> ort.InferenceSession:
    """A session on the CPU; silent, for a run that fails is told of otherwise.

    Raises:
        CheckpointError: ONNX Runtime refuses the file.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = level
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no base of its own
        text = " ".join(str(error).split())
        found = _UNKNOWN_OP.search(text)
        if found:
            name = next(group for group in found.groups() if group)
            raise CheckpointError(
                f"{path}: ONNX Runtime has no op {name} for the CPU; export the model with "
                "another op in its place"
            ) from error
        raise CheckpointError(f"{path}: ONNX Runtime refuses it: {said(error)}") from error


@dataclass(frozen=True)
class OnnxSource:
    """An ONNX file that was found and parsed.

    Attributes:
        path: The file.
        model: The file without external weights.
    """

    path: Path
    model: onnx.ModelProto

    @property
    def opset(self) -> int:
        """Opset of the default domain."""
        versions = [o.version for o in self.model.opset_import if o.domain in _STANDARD]
        return max(versions, default=1)

    @cached_property
    def data_files(self) -> list[str]:
        """Files with weights, relative to the file's folder."""
        found = set()
        for tensor in initializers_of(self.model.graph):
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                found |= {entry.value for entry in tensor.external_data if entry.key == "location"}
        for name in found:
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise CheckpointError(
                    f"{self.path}: its weights are in {name}, outside its own folder; save it anew "
                    "with its weights beside it"
                )
            if not (self.path.parent / name).is_file():
                raise CheckpointError(
                    f"{self.path}: its weights {name} are missing; copy that file beside it"
                )
        return sorted(found)

    def hashes(self) -> dict[str, str]:
        """File name -> sha256, of the file and its weights."""
        names = [self.path.name, *self.data_files]
        return {name: sha256(self.path.parent / name) for name in names}

    def check(self) -> None:
        """Refuse a file with ops that ONNX Runtime does not have, or without its weights.

        Raises:
            CheckpointError: one sentence, with the op.
        """
        _ = self.data_files
        own = {(function.domain, function.name) for function in self.model.functions}
        for node in nodes_of(self.model.graph):
            if (node.domain, node.op_type) in own:
                continue
            if node.domain not in _RUNTIME_DOMAINS:
                raise CheckpointError(
                    f"{self.path}: node '{node.name}' is the custom op "
                    f"{node.domain}::{node.op_type}, which ONNX Runtime does not have; libraries "
                    "of custom operators are not supported: export the model with standard ops"
                )
            if node.domain in _STANDARD and not onnx.defs.has(node.op_type):
                raise CheckpointError(
                    f"{self.path}: node '{node.name}' is {node.op_type}, which is no ONNX op; "
                    "export the model with standard ops"
                )

    def check_whole(self) -> None:
        """Refuse a file that ONNX's checker refuses; it is C++, for a process of its own.

        Raises:
            CheckpointError: one sentence, with what the checker says.
        """
        try:
            onnx.checker.check_model(str(self.path))
        except Exception as error:  # ValidationError, and what its parser raises
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise CheckpointError(f"{self.path}: no valid ONNX model: {first}") from error


def open_source(path: Path) -> OnnxSource:
    """Read an ONNX file.

    Raises:
        CheckpointError: it is missing or no ONNX file.
    """
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; name the .onnx file in it")
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except OSError as error:
        raise CheckpointError(f"{path}: can't be read: {error.strerror}") from error
    except (DecodeError, ValueError) as error:
        raise CheckpointError(f"{path}: is no ONNX file, or a damaged one") from error
    if not model.HasField("graph") or not model.graph.output or not model.ir_version:
        raise CheckpointError(f"{path}: is no ONNX file, or a damaged one")
    return OnnxSource(path, model)
