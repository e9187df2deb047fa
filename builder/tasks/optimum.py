"""The exporter of optimum-onnx, which runs in an environment of its own.

It exports a whole checkpoint, not a module. What our module does before the checkpoint's model
(colours of pixels, windows) and behind it (pooling, the place of the mask) is exported by
torch.onnx and joined to its graph: same names and shapes as of the other exporters.
"""

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import onnx
import torch
from onnx import TensorProto, compose, helper
from torch import nn

from builder.errors import ExportError
from builder.export.onnx_file import EXPORT_OPSET, check_limits, export_module, save_model
from builder.spec.releases import OnnxLimits
from builder.tasks.task import Graph

ENVIRONMENT: Final = "BUILDER_OPTIMUM_VENV"
"""Variable that names another environment than the one that `make install-optimum` makes."""

# What the export reads of a checkpoint; tokenizers are left out: 4.57 knows no class of 5.x.
_READ = ("config.json", "preprocessor_config.json", "*.safetensors", "*.safetensors.index.json")
_DYNAMIC = torch.export.Dim.DYNAMIC


def optimum_command() -> Path:
    """`optimum-cli` of the environment.

    Raises:
        ExportError: the environment isn't there.
    """
    named = os.environ.get(ENVIRONMENT)
    folder = Path(named) if named else Path(sys.prefix).with_name(".venv-optimum")
    command = folder / "bin" / "optimum-cli"
    if not command.is_file():
        raise ExportError(
            f"exporter: optimum needs an environment of its own, and {folder} has none; run "
            "`make install-optimum`, or take exporter transformers or torch"
        )
    return command


def optimum_versions() -> list[str]:
    """Packages of the environment with their versions: what an export by optimum depends on.

    Raises:
        ExportError: the environment isn't there.
    """
    folder = optimum_command().parents[1]
    return sorted(path.stem for path in folder.glob("lib/python*/site-packages/*.dist-info"))


def _run(graph: Graph, folder: Path) -> onnx.ModelProto:
    """What optimum-cli makes of the checkpoint."""
    origin = graph.origin
    if origin is None:
        raise ExportError(
            f"{graph.name}: exporter optimum exports whole checkpoints, and this graph is a part "
            "of one; take exporter transformers or torch"
        )
    command = optimum_command()
    source = folder / "checkpoint"
    source.mkdir()
    for pattern in _READ:
        for path in Path(origin.folder).glob(pattern):
            (source / path.name).symlink_to(path.resolve())
    arguments = [str(command), "export", "onnx", "--model", str(source), "--task", origin.task]
    arguments += ["--opset", str(EXPORT_OPSET), "--framework", "pt", "--no-post-process"]
    arguments += ["--library-name", "transformers", str(folder / "exported")]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(  # noqa: S603 - the command is ours
        arguments, check=False, capture_output=True, text=True, env=environment
    )
    if "No space left on device" in done.stderr:
        raise OSError(errno.ENOSPC, "No space left on device", str(folder))
    path = folder / "exported" / "model.onnx"
    if done.returncode or not path.is_file():
        lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
        raise ExportError(
            f"{graph.name}: the export by optimum failed: {lines[-1] if lines else 'no output'}"
        )
    return onnx.load(path)


class _Called(Exception):  # noqa: N818 - no error: the model was reached
    """The model was called; what is behind it does not matter."""


class _Stub:
    """Stands in for a checkpoint's model: tells what it is called with, gives what it is told to.

    No module: an exporter follows calls of modules, and would not get over one that ends early.
    """

    def __init__(self) -> None:
        self.inputs: dict[str, Any] = {}
        self.output: Any = None

    def __call__(self, **inputs: Any) -> Any:
        self.inputs = inputs
        if self.output is None:
            raise _Called
        return self.output


class _Before(nn.Module):
    """Inputs of a graph -> what its model is called with."""

    def __init__(self, served: nn.Module, stub: _Stub, names: Sequence[str]) -> None:
        super().__init__()
        self.served, self.stub, self.names = served, stub, names

    def forward(self, *args: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """In the order of the call's keywords."""
        self.stub.output = None
        try:
            self.served.forward(**dict(zip(self.names, args, strict=True)))
        except _Called:
            return tuple(self.stub.inputs.values())
        raise AssertionError("the model was not called")


class _Behind(nn.Module):
    """Outputs of a model, then inputs of its graph -> outputs of the graph."""

    def __init__(
        self, served: nn.Module, stub: _Stub, names: Sequence[str], fields: Sequence[str]
    ) -> None:
        super().__init__()
        self.served, self.stub, self.names, self.fields = served, stub, names, fields

    def forward(self, *args: torch.Tensor) -> Any:
        """What the graph serves."""
        count = len(self.fields)
        self.stub.output = SimpleNamespace(**dict(zip(self.fields, args[:count], strict=True)))
        return self.served.forward(**dict(zip(self.names, args[count:], strict=True)))


@contextmanager
def _without_model(served: nn.Module) -> Iterator[tuple[Any, _Stub]]:
    model, stub = served._modules.pop("model"), _Stub()
    served.__dict__["model"] = stub
    try:
        yield model, stub
    finally:
        del served.__dict__["model"]
        served.add_module("model", model)


def _varying(value: onnx.ValueInfoProto) -> dict[int, Any]:
    dims = value.type.tensor_type.shape.dim
    return {place: _DYNAMIC for place, dim in enumerate(dims) if not dim.dim_value}


def _around(
    graph: Graph, main: onnx.ModelProto, folder: Path, limits: OnnxLimits
) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """What is done before and behind the checkpoint's model, as two graphs."""
    names = [tensor.name for tensor in graph.inputs]
    example = tuple(graph.example[name] for name in names)
    axes = [dict.fromkeys(graph.axes[name], _DYNAMIC) for name in names]
    fields = [output.name for output in main.graph.output]
    with _without_model(graph.module) as (model, stub):
        before = _Before(graph.module, stub, names).eval()
        called = before(*example)
        keywords = list(stub.inputs)
        with torch.no_grad():
            output = model(**dict(zip(keywords, called, strict=True)))
        given = tuple(output[field] for field in fields)
        paths = folder / "before.onnx", folder / "behind.onnx"
        export_module(
            before,
            example,
            paths[0],
            input_names=names,
            # An output may be an input as it is: it needs another name.
            output_names=[f"{keyword}_called" for keyword in keywords],
            dynamic_shapes={"args": tuple(axes)},
            limits=limits,
            name=graph.name,
        )
        shapes = [_varying(value) for value in main.graph.output]
        export_module(
            _Behind(graph.module, stub, names, fields).eval(),
            (*given, *example),
            paths[1],
            input_names=[*(f"{field}_given" for field in fields), *names],
            output_names=[tensor.name for tensor in graph.outputs],
            dynamic_shapes={"args": (*shapes, *axes)},
            limits=limits,
            name=graph.name,
        )
    return onnx.load(paths[0]), onnx.load(paths[1])


def _value(name: str, data_type: int, dims: Sequence[Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, data_type, dims)


def _boundary(
    graph: Graph, before: onnx.ModelProto
) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    """Inputs and outputs of the joined graph, with the names of its axes."""
    inputs = []
    for value, tensor in zip(before.graph.input, graph.inputs, strict=True):
        task, varying = value.type.tensor_type.elem_type, graph.axes[tensor.name]
        dims = (-1, *tensor.dims)
        inputs.append(_value(tensor.name, task, [varying.get(i, d) for i, d in enumerate(dims)]))
    rank = max(len(dims) for dims in graph.axes.values())
    axes = next(dims for dims in graph.axes.values() if len(dims) == rank)
    outputs = []
    for tensor in graph.outputs:
        dims = (-1, *tensor.dims)
        named = [axes.get(i, f"{tensor.name}_{i}") if d < 0 else d for i, d in enumerate(dims)]
        outputs.append(_value(tensor.name, TensorProto.FLOAT, named))
    return inputs, outputs


def _links(
    graph: Graph, before: onnx.ModelProto, main: onnx.ModelProto, behind: onnx.ModelProto
) -> list[onnx.NodeProto]:
    """Nodes that join the three graphs, whose names have prefixes by then."""

    def link(source: str, target: str) -> onnx.NodeProto:
        return helper.make_node("Identity", [source], [target], name=f"link/{target}")

    names = {tensor.name for tensor in graph.inputs}
    called = {value.name.removesuffix("_called") for value in before.graph.output}
    taken = {value.name for value in main.graph.input}
    for name in sorted(called - taken):
        raise ExportError(f"{graph.name}: the graph that optimum exports takes no {name}")
    nodes = [link(name, f"before/{name}") for name in sorted(names)]
    for value in main.graph.input:
        target = f"main/{value.name}"
        if value.name in called:
            nodes.append(link(f"before/{value.name}_called", target))
        elif value.name == "token_type_ids" and "input_ids" in called:
            ids = "before/input_ids_called"
            nodes.append(helper.make_node("Sub", [ids, ids], [target], name=f"zeros/{target}"))
        else:
            raise ExportError(f"{graph.name}: optimum's graph has an unknown input {value.name}")
    for value in behind.graph.input:
        field = value.name.removesuffix("_given")
        source = value.name if value.name in names else f"main/{field}"
        nodes.append(link(source, f"behind/{value.name}"))
    nodes += [link(f"behind/{value.name}", value.name) for value in behind.graph.output]
    return nodes


def _sorted_nodes(nodes: Sequence[onnx.NodeProto], known: set[str]) -> list[onnx.NodeProto]:
    """Nodes of a list, in which only the links stand out of order, each behind what it reads."""
    waiting, done = list(nodes), []
    while waiting:
        left = []
        for node in waiting:
            if all(name in known for name in node.input if name):
                done.append(node)
                known.update(node.output)
            else:
                left.append(node)
        if len(left) == len(waiting):
            raise ExportError(f"the joined graph lacks {left[0].input[0]}")
        waiting = left
    return done


def export_by_optimum(graph: Graph, path: Path, limits: OnnxLimits) -> None:
    """Export a graph by optimum-cli.

    Args:
        graph: The graph; it has an `origin`.
        path: The file to write; large weights go to a file beside it.
        limits: What the Triton release can load.

    Raises:
        ExportError: optimum is not installed, or refused the checkpoint.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        folder = Path(scratch)
        main = _run(graph, folder)
        before, behind = _around(graph, main, folder, limits)
        inputs, outputs = _boundary(graph, before)
        links = _links(graph, before, main, behind)
        parts: Mapping[str, onnx.ModelProto] = {"before": before, "main": main, "behind": behind}
        prefixed = [compose.add_prefix(part, f"{name}/") for name, part in parts.items()]
        nodes = [*links, *(node for part in prefixed for node in part.graph.node)]
        weights = [tensor for part in prefixed for tensor in part.graph.initializer]
        known = {value.name for value in inputs} | {tensor.name for tensor in weights}
        joined = helper.make_graph(
            _sorted_nodes(nodes, known), graph.name, inputs, outputs, weights
        )
        imports = {(o.domain, o.version) for part in prefixed for o in part.opset_import}
        model = helper.make_model(
            joined,
            opset_imports=[helper.make_opsetid(*entry) for entry in sorted(imports)],
            ir_version=limits.ir_version,
            producer_name="optimum-onnx",
        )
        save_model(model, path)
    check_limits(path, limits)
