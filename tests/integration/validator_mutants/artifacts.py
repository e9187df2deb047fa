"""Mutants of model files: Python sources, ONNX graphs, and configs that Triton completes.

They are loaded by the real Python backend and by our Python-based ONNX Runtime backend, at a
second or two each. Left out are ragged batches, batch inputs and outputs, and states.
"""

from collections.abc import Iterable
from random import Random
from typing import TypeAlias

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper
from tritonclient.grpc import model_config_pb2 as pb

from .mutant import Files, Mutant, Section, text

_Io: TypeAlias = pb.ModelInput | pb.ModelOutput
_GOOD = b"""import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse() for _ in requests]
"""
_EXECUTE = b"    def execute(self, requests):\n        return []\n"
_SOURCES = [
    b"class TritonPythonModel:\n" + _EXECUTE,
    b"class TritonPythonModel(object):\n    x = 1\n" + _EXECUTE,
    b"class Base:\n" + _EXECUTE + b"\nclass TritonPythonModel(Base):\n    pass\n",
    b"class Model:\n" + _EXECUTE + b"\nTritonPythonModel = Model\n",
    b"from helper import TritonPythonModel\n",
    b"from helper import *\n",
    b"from helper import Other as TritonPythonModel\n",
    b"import helper as TritonPythonModel\n",
    b"if True:\n    class TritonPythonModel:\n        def execute(self, r):\n"
    b"            return []\n",
    b"try:\n    from helper import TritonPythonModel\nexcept ImportError:\n    raise\n",
    b"\xef\xbb\xbfclass TritonPythonModel:\n" + _EXECUTE,
    b"# -*- coding: latin-1 -*-\n# \xfc\nclass TritonPythonModel:\n" + _EXECUTE,
    b"class TritonPythonModel:\n    async def execute(self, requests):\n        return []\n",
    b"class TritonPythonModel:\n"
    b"    @staticmethod\n    def auto_complete_config(config):\n        return config\n" + _EXECUTE,
    b"class TritonPythonModel:\n"
    b"    @staticmethod\n    def auto_complete_config(config):\n"
    b"        config.set_max_batch_size(4)\n"
    b"        config.add_input({'name': 'X', 'data_type': 'TYPE_FP32', 'dims': [4]})\n"
    b"        config.add_output({'name': 'Y', 'data_type': 'TYPE_FP32', 'dims': [4]})\n"
    b"        return config\n" + _EXECUTE,
]
_BAD_SOURCES = [
    b"",
    b"pass\n",
    b"class TritonPythonModel\n" + _EXECUTE,
    b"class TritonPythonModell:\n" + _EXECUTE,
    b"class tritonpythonmodel:\n" + _EXECUTE,
    b"class TritonPythonModel:\n\tdef execute(self):\n        return 1\n",
    b"def TritonPythonModel(",
    b"\xff\xfe\x00junk",
    b"class TritonPythonModel:\n    # \xfc is not UTF-8\n" + _EXECUTE,
    b"print 'Python 2'\n\nclass TritonPythonModel:\n" + _EXECUTE,
    b"def outer():\n    class TritonPythonModel:\n        pass\n",
    b"class TritonPythonModel:\n"
    b"    @staticmethod\n    def auto_complete_config(config):\n        pass\n" + _EXECUTE,
    b"x = (\n",
    b"class TritonPythonModel:\n    def execute(self, requests):\n        retrun []\n",
]


def _python(rng: Random) -> Mutant:
    config = pb.ModelConfig(backend="python", max_batch_size=rng.choice([0, 4]))
    config.input.add(name="X", data_type=pb.TYPE_FP32, dims=[4])
    config.output.add(name="Y", data_type=pb.TYPE_FP32, dims=[4])
    source = rng.choice(_BAD_SOURCES if rng.random() < 0.35 else [_GOOD, *_SOURCES])
    files: Files = {
        "1/model.py": source,
        "1/helper.py": _GOOD + b"\n\nOther = TritonPythonModel\n",
    }
    if b"add_input" in source and rng.random() < 0.7:
        del config.input[:], config.output[:]
        config.max_batch_size = 0
    change = rng.random()
    if change < 0.08:
        value = rng.choice(["yes", "no", "Yes", "", "true"])
        config.parameters["FORCE_CPU_ONLY_INPUT_TENSORS"].string_value = value
    elif change < 0.14:
        config.parameters["EXECUTION_ENV_PATH"].string_value = rng.choice(
            ["", "$$TRITON_MODEL_DIRECTORY/gone.tar.gz", "$$TRITON_MODEL_DIRECTORY/1/gone"]
        )
    elif change < 0.22:
        config.default_model_filename = rng.choice(["helper.py", "gone.py", "model.py"])
    elif change < 0.26:
        files["1/moved.py"] = files.pop("1/model.py")
    elif change < 0.30:
        config.ClearField("backend")
    elif change < 0.34:
        files["2/model.py"] = rng.choice(_BAD_SOURCES)
    elif change < 0.38:
        files["2/model.py"] = rng.choice(_BAD_SOURCES)
        config.version_policy.specific.versions.append(1)
    return Mutant("Python models", {"config.pbtxt": text(config), **files}, "python")


_ONNX_TYPES = {
    TensorProto.FLOAT: pb.TYPE_FP32,
    TensorProto.INT64: pb.TYPE_INT64,
    TensorProto.UINT8: pb.TYPE_UINT8,
    TensorProto.BOOL: pb.TYPE_BOOL,
    TensorProto.STRING: pb.TYPE_STRING,
    TensorProto.FLOAT16: pb.TYPE_FP16,
}


def _graph(
    rng: Random, batching: bool, controls: list[str]
) -> tuple[onnx.ModelProto, pb.ModelConfig]:
    """A graph of identities, with the config that describes it."""
    config = pb.ModelConfig(backend="onnxruntime", max_batch_size=4 if batching else 0)
    config.instance_group.add(count=1, kind=pb.ModelInstanceGroup.KIND_CPU)
    inputs, outputs, nodes = [], [], []
    for index in range(rng.randint(1, 2)):
        onnx_type = rng.choice(list(_ONNX_TYPES))
        drawn = [rng.choice(["1", "3", "4", f"d{index}{k}"]) for k in range(rng.randint(0, 2))]
        inner: list[int | str] = [int(dim) if dim.isdecimal() else dim for dim in drawn]
        dims: list[int | str] = ["batch", *inner] if batching else inner
        inputs.append(helper.make_tensor_value_info(f"X{index}", onnx_type, dims))
        outputs.append(helper.make_tensor_value_info(f"Y{index}", onnx_type, dims))
        nodes.append(helper.make_node("Identity", [f"X{index}"], [f"Y{index}"]))
        fixed = [dim if isinstance(dim, int) else -1 for dim in inner]
        for ios, name in ((config.input, f"X{index}"), (config.output, f"Y{index}")):
            io = ios.add(name=name, data_type=_ONNX_TYPES[onnx_type], dims=fixed or [1])
            if not fixed and batching:
                io.reshape.SetInParent()
    for name in controls:
        dims = ["batch", 1] if batching else [1]
        inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, dims))
        outputs.append(helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, dims))
        nodes.append(helper.make_node("Identity", [name], [f"{name}_out"]))
    graph = helper.make_graph(nodes, "identities", inputs, outputs)
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8), config


def _onnx(rng: Random) -> Mutant:
    controls = ["START"] if rng.random() < 0.12 else []
    graph, config = _graph(rng, rng.random() < 0.6, controls)
    for name in controls:
        control = config.sequence_batching.control_input.add(name=name).control.add()
        control.fp32_false_true.extend([0, 1])
    files: Files = {"1/model.onnx": graph.SerializeToString()}
    for change in rng.choices(_ONNX_CHANGES, k=rng.choice([0, 1, 1, 1, 2])):
        change(rng, config, files)
    return Mutant("ONNX graph", {"config.pbtxt": text(config), **files}, "onnxruntime")


def _pick(rng: Random, ios: Iterable[_Io]) -> _Io:
    """One of the tensors; where an earlier change left none, one that is not in the config."""
    return rng.choice([*ios] or [pb.ModelInput(dims=[1])])


def _io_name(rng: Random, config: pb.ModelConfig, files: Files) -> None:
    ios = rng.choice([config.input, config.output])
    _pick(rng, ios).name = rng.choice(["Z", "X0", "Y0"])


def _io_type(rng: Random, config: pb.ModelConfig, files: Files) -> None:
    types = [*_ONNX_TYPES.values(), pb.TYPE_BF16, pb.TYPE_INT32]
    _pick(rng, [*config.input, *config.output]).data_type = rng.choice(types)


def _io_dims(rng: Random, config: pb.ModelConfig, files: Files) -> None:
    io = _pick(rng, [*config.input, *config.output])
    if not io.dims:
        return
    action = rng.randrange(4)
    if action == 0:
        io.dims[rng.randrange(len(io.dims))] = rng.choice([-1, 1, 3, 5])
    elif action == 1:
        io.dims.append(rng.choice([1, -1]))
    elif action == 2:
        del io.dims[-1]
        if not io.dims:
            io.dims.append(1)
    else:
        io.dims.insert(0, -1)


def _io_reshape(rng: Random, config: pb.ModelConfig, files: Files) -> None:
    io = _pick(rng, [*config.input, *config.output])
    if -1 not in io.dims and not io.HasField("reshape"):
        before = list(io.dims)
        del io.dims[:]
        io.dims.extend([1, *before] if rng.random() < 0.5 else [*before, 1])
        io.reshape.shape.extend(before)


def _io_drop(rng: Random, config: pb.ModelConfig, files: Files) -> None:
    ios = rng.choice([config.input, config.output])
    if len(ios) > 1:
        del ios[rng.randrange(len(ios))]


def _io_add(rng: Random, config: pb.ModelConfig, files: Files) -> None:
    rng.choice([config.input, config.output]).add(name="W", data_type=pb.TYPE_FP32, dims=[1])


def _io_optional(rng: Random, config: pb.ModelConfig, files: Files) -> None:
    _pick(rng, config.input).optional = True


def _no_ios(rng: Random, config: pb.ModelConfig, files: Files) -> None:
    for field in rng.choice([["input"], ["output"], ["input", "output"], ["input", "output"]]):
        config.ClearField(field)
    if rng.random() < 0.3:
        config.max_batch_size = rng.choice([0, 2])


def _batch(rng: Random, config: pb.ModelConfig, files: Files) -> None:
    config.max_batch_size = rng.choice([0, 1, 8])
    if config.max_batch_size == 0 and rng.random() < 0.6:
        for io in (*config.input, *config.output):
            before = list(io.reshape.shape if io.HasField("reshape") else io.dims)
            del io.dims[:]
            io.ClearField("reshape")
            io.dims.extend([-1, *before])


def _file(rng: Random, config: pb.ModelConfig, files: Files) -> None:
    content = files.pop("1/model.onnx", b"")
    assert isinstance(content, bytes | None)
    action = rng.randrange(6)
    if action == 0:
        files["1/other.onnx"] = content
        config.default_model_filename = rng.choice(["other.onnx", "gone.onnx"])
    elif action == 1:
        files["1/model.onnx/model.onnx"] = content
    elif action == 2:
        files["1/model.onnx"] = rng.choice([b"", b"junk", (content or b"")[:-20]])
    elif action == 3:
        files["1"] = None
    elif action == 4:
        files["2/model.onnx"] = content
        files["1/model.onnx"] = b"junk, and not the latest"
    else:
        files["1/model.onnx"] = content
        config.ClearField("backend")


def _weights(rng: Random, config: pb.ModelConfig, files: Files) -> None:
    """Weights in a file beside the model, or not quite."""
    content = files.get("1/model.onnx")
    if not isinstance(content, bytes) or not content:
        return
    try:
        graph = onnx.load_from_string(content)
    except DecodeError:
        return
    tensor = graph.graph.initializer.add(name="W", data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    name = rng.choice(["weights.bin", "weights.bin", "weights.bin", "gone.bin", "../weights.bin"])
    for key, value in (("location", name), ("offset", "0"), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    graph.graph.node.append(helper.make_node("Identity", ["W"], ["WOUT"]))
    graph.graph.output.append(helper.make_tensor_value_info("WOUT", TensorProto.FLOAT, [4]))
    files["1/model.onnx"] = graph.SerializeToString()
    files["1/weights.bin"] = bytes(rng.choice([16, 16, 16, 64, 15, 0]))
    files["weights.bin"] = bytes(16)


def _setting(rng: Random, config: pb.ModelConfig, files: Files) -> None:
    key = rng.choice(["intra_op_thread_count", "inter_op_thread_count", "execution_mode"])
    config.parameters[key].string_value = rng.choice(["0", "1", "2", "x", "", "-1"])
    if key == "execution_mode" and rng.random() < 0.5:
        config.parameters["enable_mem_pattern"].string_value = rng.choice(["1", "0", "maybe"])


def _accelerator(rng: Random, config: pb.ModelConfig, files: Files) -> None:
    accelerators = config.optimization.execution_accelerators
    if rng.random() < 0.7:
        accelerators.cpu_execution_accelerator.add(name=rng.choice(["openvino", "nonsense"]))
    else:
        accelerators.gpu_execution_accelerator.add(name=rng.choice(["tensorrt", "nonsense"]))


_ONNX_CHANGES = [_io_name, _io_type, _io_dims, _io_dims, _io_reshape, _io_drop, _io_add]
_ONNX_CHANGES += [
    _weights,
    _weights,
    _io_optional,
    _no_ios,
    _no_ios,
    _batch,
    _file,
    _setting,
    _accelerator,
]


def _completed(rng: Random) -> Mutant:
    """A config with little in it, and the files that Triton completes it from."""
    graph, full = _graph(rng, rng.random() < 0.6, [])
    config = pb.ModelConfig()
    for field in ("backend", "max_batch_size", "input", "output"):
        if rng.random() < 0.25:
            value = getattr(full, field)
            if isinstance(value, str | int):
                setattr(config, field, value)
            else:
                getattr(config, field).extend(value)
    config.instance_group.extend(full.instance_group)
    if rng.random() < 0.15:
        config.platform = rng.choice(["onnxruntime_onnx", "tensorrt_plan", "nonsense"])
    names = {"1/model.onnx": graph.SerializeToString(), "1/model.py": _GOOD, "1/notes.txt": b""}
    chosen = rng.sample(list(names), rng.randint(0, 2))
    files: Files = {"1": None, **{name: names[name] for name in chosen}}
    if rng.random() < 0.85 or "1/model.onnx" not in chosen:
        files["config.pbtxt"] = text(config)
    if rng.random() < 0.1:
        files["0folder"] = None
    return Mutant("auto-complete", files, "onnxruntime")


SECTIONS = [
    Section("Python models", _python),
    Section("ONNX graph", _onnx),
    Section("auto-complete", _completed),
]
