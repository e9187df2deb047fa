"""Small graphs in ONNX's own text, with what makes each of them special."""

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

GRAPHS = {
    # rows are independent
    "rows": ("float[n, 4] x", "float[n, 4] y", "y = Relu(x)"),
    # a free first dim that is no batch dim
    "time": ("float[t, 4] x", "float[t, 4] y", "y = Softmax<axis=0>(x)"),
    "fixed": ("float[2, 4] x", "float[2, 4] y", "y = Relu(x)"),
    # the first dim is a batch in one input only
    "state": (
        "float[n, 4] x, float[2, n, 4] h, int64 rate",
        "float[n, 4] y",
        "a = ReduceSum<keepdims=0>(h, zero)\n r = Cast<to=1>(rate)\n b = Mul(a, r)\n y = Add(x, b)",
    ),
    "lengths": (
        "float[n, s] x, int64[n] lengths",
        "float[n] y",
        "f = Cast<to=1>(lengths)\n a = ReduceMean<axes=[1], keepdims=0>(x)\n y = Mul(a, f)",
    ),
    "embedding": (
        "int64[n, s] ids",
        "float[n, s, 2] y",
        "a = Cast<to=6>(ids)\n y = Gather(table, a)",
    ),
    "compared": (
        "float[n, s] x, int64 sr",
        "float[n, s] y",
        "c = Equal(sr, wanted)\n f = Cast<to=1>(c)\n y = Mul(x, f)",
    ),
    "strings": ("string[n, 3] s", "string[n, 3] t", "t = Identity(s)"),
    "halves": ("float16[n, 3] x", "float16[n, 3] y", "y = Relu(x)"),
    "bools": ("bool[n, 3] x, uint8[n, 3] u", "bool[n, 3] y", "v = Cast<to=9>(u)\n y = And(x, v)"),
    "random": ("float[n, 3] x", "float[n, 3] y", "r = RandomNormalLike(x)\n y = Add(x, r)"),
    "sequence_out": (
        "float[n, 3] x",
        "float[n, 3] y, seq(float[n, 3]) z",
        "y = Relu(x)\n z = SequenceConstruct(x, y)",
    ),
    "sequence_in": ("seq(float[n, 3]) x, int64 i", "float[n, 3] y", "y = SequenceAt(x, i)"),
    "optional": ("float[n, 2] x, float[2] bias", "float[n, 2] y", "y = Add(x, bias)"),
}

_INITIALIZERS = {
    "state": [("zero", np.array([0], np.int64))],
    "embedding": [("table", np.arange(20, dtype=np.float32).reshape(10, 2))],
    "compared": [("wanted", np.array(16000, np.int64))],
    "optional": [("bias", np.array([1, 2], np.float32))],
}


def graph(name: str, *, opset: int = 17, ir: int = 8) -> onnx.ModelProto:
    """One of `GRAPHS`."""
    inputs, outputs, body = GRAPHS[name]
    text = f"""<ir_version: {ir}, opset_import: ["": {opset}]>
    agraph ({inputs}) => ({outputs}) {{ {body} }}"""
    model = onnx.parser.parse_model(text)
    for key, array in _INITIALIZERS.get(name, []):
        model.graph.initializer.append(numpy_helper.from_array(array, key))
    return model


def save(folder: Path, name: str, **options: int) -> Path:
    """The file of a graph."""
    path = folder / f"{name}.onnx"
    onnx.save(graph(name, **options), str(path))
    return path


def save_external(folder: Path, name: str) -> Path:
    """The file of a graph, its weights in `weights/all.data`."""
    path = folder / f"{name}.onnx"
    (folder / "weights").mkdir(exist_ok=True)
    onnx.save(
        graph(name),
        str(path),
        save_as_external_data=True,
        location="weights/all.data",
        size_threshold=0,
    )
    return path
