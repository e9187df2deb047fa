"""Several graphs of one structure to one, which takes its constants by the shape of an input.

Graphs of the same module for different grids differ in their constants alone: tables of positions,
the targets of reshapes. So one graph remains, with one copy of every weight (in the file, and once
more where a runtime packs it), and one `If` a grid that gives the constants that differ. A branch
with the whole graph in it would be packed again in every branch.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from builder.errors import ExportError
from builder.export.onnx_file import check_limits, save_model
from builder.spec.releases import OnnxLimits

_PREFIX: Final = "by_shape"
_Kind = TypeVar("_Kind")


def export_by_shape(
    kinds: Sequence[_Kind],
    export: Callable[[_Kind, Path], None],
    path: Path,
    input_name: str,
    limits: OnnxLimits,
) -> None:
    """Export a graph for each kind of input; several become one.

    Args:
        kinds: What `export` is called with.
        export: Writes the graph of one kind to a file.
        path: The file to write.
        input_name: The input whose shape tells the kinds apart.
        limits: What the release can load.

    Raises:
        ExportError: the graphs differ in more than their constants, or an export failed.
    """
    if len(kinds) == 1:
        export(kinds[0], path)
        return
    with TemporaryDirectory(prefix=".by_shape-", dir=path.parent) as folder:
        paths = [Path(folder) / f"{i}.onnx" for i in range(len(kinds))]
        for kind, each in zip(kinds, paths, strict=True):
            export(kind, each)
        save_model(merge_by_shape(paths, input_name), path)
    check_limits(path, limits)


@dataclass
class _Graph:
    """One of the graphs.

    Attributes:
        folder: Where its external data is.
        model: The file; weights outside of it are read one at a time.
        nodes: Its nodes without those that are constants.
        constants: Initializers and the values of constant nodes.
        produced: Name of a node's output -> (node, output).
    """

    folder: Path
    model: onnx.ModelProto
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)
    produced: dict[str, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> "_Graph":
        graph = cls(path.parent, onnx.load(path, load_external_data=False))
        graph.constants = {tensor.name: tensor for tensor in graph.model.graph.initializer}
        for node in graph.model.graph.node:
            value = next((a.t for a in node.attribute if a.name == "value"), None)
            if node.op_type == "Constant" and value is not None:
                graph.constants[node.output[0]] = value
                continue
            for place, name in enumerate(node.output):
                graph.produced[name] = (len(graph.nodes), place)
            graph.nodes.append(node)
        return graph

    def array(self, name: str) -> NDArray[Any]:
        return numpy_helper.to_array(self.constants[name], base_dir=str(self.folder))

    def digest(self, name: str) -> bytes:
        """Of type, shape and content."""
        array = self.array(name)
        head = f"{self.constants[name].data_type} {array.shape} ".encode()
        return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).digest()


@dataclass
class _Merge:
    """The merged graph while it grows."""

    graphs: list[_Graph]
    stored: dict[bytes, str] = field(default_factory=dict)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    chosen: dict[tuple[bytes, ...], str] = field(default_factory=dict)
    digests: dict[tuple[int, str], bytes] = field(default_factory=dict)

    def _store(self, digest: bytes, number: int, name: str, wanted: str) -> None:
        """Keep the content of a constant of a graph once, under the wanted name if it is free."""
        if digest in self.stored:
            return
        unique = wanted if wanted not in self.stored.values() else f"{wanted}.{len(self.stored)}"
        self.stored[digest] = unique
        tensor = numpy_helper.from_array(self.graphs[number].array(name), unique)
        tensor.data_type = self.graphs[number].constants[name].data_type
        self.initializers.append(tensor)

    def constant(self, names: Sequence[str]) -> str:
        """What stands for a constant that has these names in the graphs."""
        digests = tuple(self._digest(number, name) for number, name in enumerate(names))
        if len(set(digests)) == 1:
            self._store(digests[0], 0, names[0], names[0])
            return self.stored[digests[0]]
        for number, (digest, name) in enumerate(zip(digests, names, strict=True)):
            self._store(digest, number, name, f"{names[0]}.of_{number}")
        return self.chosen.setdefault(digests, f"{_PREFIX}.{names[0]}.{len(self.chosen)}")

    def _digest(self, number: int, name: str) -> bytes:
        key = (number, name)
        if key not in self.digests:
            self.digests[key] = self.graphs[number].digest(name)
        return self.digests[key]

    def value(self, names: Sequence[str]) -> str | None:
        """What stands for an input that has these names in the graphs; None where they differ."""
        if all(name in g.constants for g, name in zip(self.graphs, names, strict=True)):
            return self.constant(names)
        places = {g.produced.get(name) for g, name in zip(self.graphs, names, strict=True)}
        if len(places) > 1 or (places == {None} and len(set(names)) > 1):
            return None
        return names[0]


def merge_by_shape(paths: Sequence[Path], input_name: str) -> onnx.ModelProto:
    """One model of several whose inputs and outputs have the same names.

    A request whose `input_name` has the shape of none of them fails in a node that is named
    after the shapes that there are.

    Raises:
        ExportError: the graphs differ in more than their constants.
    """
    merge = _Merge([_Graph.load(path) for path in paths])
    first = merge.graphs[0]
    nodes = [_merged_node(merge, same) for same in _aligned(merge.graphs)]
    inputs, outputs = (
        [_merged_info(infos) for infos in zip(*sides, strict=True)]
        for sides in (
            [g.model.graph.input for g in merge.graphs],
            [g.model.graph.output for g in merge.graphs],
        )
    )
    if any(merge.value([info.name] * len(paths)) is None for info in outputs):
        raise _different("their outputs")
    choice, tensors = _choice(merge, input_name)
    graph = helper.make_graph(
        [*choice, *nodes],
        first.model.graph.name,
        inputs,
        outputs,
        initializer=[*merge.initializers, *tensors],
    )
    return helper.make_model(
        graph,
        opset_imports=first.model.opset_import,
        ir_version=first.model.ir_version,
        producer_name=first.model.producer_name,
        producer_version=first.model.producer_version,
    )


def _different(what: str) -> ExportError:
    return ExportError(f"the graphs of the spec's grids differ in {what}; they can't be one graph")


def _aligned(graphs: list[_Graph]) -> list[tuple[onnx.NodeProto, ...]]:
    """The nodes that stand in the same place."""
    first = graphs[0].model
    for graph in graphs:
        if len(graph.nodes) != len(graphs[0].nodes):
            raise _different("the number of their nodes")
        if list(graph.model.opset_import) != list(first.opset_import) or graph.model.functions:
            raise _different("what they import")
    return list(zip(*(graph.nodes for graph in graphs), strict=True))


def _merged_node(merge: _Merge, nodes: tuple[onnx.NodeProto, ...]) -> onnx.NodeProto:
    first = nodes[0]
    attributes = {a.name: a.SerializeToString(deterministic=True) for a in first.attribute}
    for node in nodes[1:]:
        same = {a.name: a.SerializeToString(deterministic=True) for a in node.attribute}
        kind = (node.op_type, node.domain, len(node.input), len(node.output))
        if kind != (first.op_type, first.domain, len(first.input), len(first.output)):
            raise _different(f"operators ({first.op_type} and {node.op_type})")
        if same != attributes:
            raise _different(f"attributes of {first.op_type}")
    merged = onnx.NodeProto()
    merged.CopyFrom(first)
    for place, names in enumerate(zip(*(node.input for node in nodes), strict=True)):
        value = merge.value(names)
        if value is None:
            raise _different(f"the inputs of {first.op_type}")
        merged.input[place] = value
    return merged


def _merged_info(infos: Sequence[onnx.ValueInfoProto]) -> onnx.ValueInfoProto:
    """An input or output with a free dim where the graphs have different ones."""
    if len({info.name for info in infos}) > 1:
        raise _different("the names of inputs and outputs")
    merged = onnx.ValueInfoProto()
    merged.CopyFrom(infos[0])
    for axis, dim in enumerate(merged.type.tensor_type.shape.dim):
        dims = [info.type.tensor_type.shape.dim[axis] for info in infos]
        if any(other != dim for other in dims):
            dim.dim_param = f"{merged.name}_{axis}"
    return merged


def _choice(merge: _Merge, input_name: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Nodes that give the chosen constants, and the tensors that these nodes need."""
    shapes = _shapes(merge.graphs, input_name)
    axes = [axis for axis in range(len(shapes[0])) if all(shape[axis] for shape in shapes)]
    table = np.array([[shape[axis] for axis in axes] for shape in shapes], dtype=np.int64)
    if len({tuple(row) for row in table.tolist()}) < len(shapes):
        raise ExportError(f"two graphs take '{input_name}' of the same shape")
    tensors = {
        "axes": np.array(axes, dtype=np.int64),
        "shapes": table,
        "last": np.array([1], dtype=np.int64),
        "one": np.array([1], dtype=np.int64),
        "two": np.array([2], dtype=np.int64),
        **{f"place_{i}": np.array(i, dtype=np.int64) for i in range(len(shapes) - 1)},
    }
    allowed = " or ".join("x".join(map(str, row)) for row in table.tolist())

    def node(kind: str, inputs: Sequence[str], output: str, name: str = "", **more: Any) -> Any:
        names = [i if i == input_name else f"{_PREFIX}.{i}" for i in inputs]
        label = name or f"{_PREFIX}.{output}"
        return helper.make_node(kind, names, [f"{_PREFIX}.{output}"], name=label, **more)

    nodes = [
        node("Shape", [input_name], "shape"),
        node("Gather", ["shape", "axes"], "sides"),
        node("Equal", ["sides", "shapes"], "equal"),
        node("Cast", ["equal"], "equal_number", to=onnx.TensorProto.INT64),
        node("ReduceMin", ["equal_number", "last"], "matches", keepdims=0),
        node("ReduceMax", ["matches"], "any", keepdims=1),
        node("Sub", ["two", "any"], "target"),
        # ONNX has no assertion: one element does not reshape to two. Runtimes name the node.
        node("Reshape", ["one", "target"], "fits", name=f"{input_name} must be {allowed}"),
        node("Mul", ["matches", "fits"], "found"),
    ]
    for i in range(len(shapes) - 1):
        nodes += [
            node("Gather", ["found", f"place_{i}"], f"is_{i}_number"),
            node("Cast", [f"is_{i}_number"], f"is_{i}", to=onnx.TensorProto.BOOL),
        ]
    if merge.chosen:
        nodes += _nested(merge, 0, "").node
    named = [numpy_helper.from_array(v, f"{_PREFIX}.{name}") for name, v in tensors.items()]
    return nodes, named


def _shapes(graphs: Sequence[_Graph], input_name: str) -> list[tuple[int, ...]]:
    """Shape of the input in each graph, 0 for a free dim."""
    found = []
    for graph in graphs:
        info = next((i for i in graph.model.graph.input if i.name == input_name), None)
        if info is None:
            raise ExportError(f"the graph has no input '{input_name}'")
        found.append(tuple(d.dim_value for d in info.type.tensor_type.shape.dim))
    return found


def _nested(merge: _Merge, number: int, suffix: str) -> onnx.GraphProto:
    """A graph that gives the chosen constants of graph `number` or of one behind it."""
    sources = [merge.stored[digests[number]] for digests in merge.chosen]
    kinds = {tensor.name: tensor.data_type for tensor in merge.initializers}

    def infos(suffix: str) -> list[onnx.ValueInfoProto]:
        return [
            helper.make_tensor_value_info(f"{name}{suffix}", kinds[source], None)
            for name, source in zip(merge.chosen.values(), sources, strict=True)
        ]

    outputs = infos(suffix)
    if number == len(merge.graphs) - 1:
        return _constants(sources, outputs, number)
    node = helper.make_node(
        "If",
        [f"{_PREFIX}.is_{number}"],
        [info.name for info in outputs],
        name=f"{_PREFIX}.if_{number}",
        then_branch=_constants(sources, infos(f".{number}"), number),
        else_branch=_nested(merge, number + 1, f".{number + 1}"),
    )
    return helper.make_graph([node], f"{_PREFIX}_from_{number}", [], outputs)


def _constants(
    sources: Sequence[str], outputs: Sequence[onnx.ValueInfoProto], number: int
) -> onnx.GraphProto:
    """A branch: initializers of the graph around it, handed out."""
    nodes = [
        helper.make_node("Identity", [source], [info.name])
        for source, info in zip(sources, outputs, strict=True)
    ]
    return helper.make_graph(nodes, f"{_PREFIX}_{number}", [], outputs)
