"""The Python-based onnxruntime backend on a real tritonserver."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import tritonclient.grpc as grpc
from onnx import TensorProto, helper
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from builder.runtime.backends.onnxruntime.settings import SettingError, read_settings
from builder.serve import TritonServer

ONE = "instance_group { count: 1 kind: KIND_CPU }\n"
HEAD = f'backend: "onnxruntime"\n{ONE}'
# A batch leaves as soon as it is full, so four requests at once are one batch of four.
BATCH = """
max_batch_size: 4
dynamic_batching { preferred_batch_size: 4 max_queue_delay_microseconds: 5000000 }
"""
Info = tuple[str, int, Sequence[int | str | None] | None]


@pytest.fixture(scope="module")
def server(
    serve_repository: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    with serve_repository(tmp_path_factory.mktemp("repository"), explicit=True) as server:
        yield server


@pytest.fixture
def load(server: TritonServer, write_model: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """`load(graph, config)` -> the name of the loaded model, unloaded after the test."""
    names = []

    def load(model: onnx.ModelProto | None, config: str, file: str | None = None) -> str:
        name = f"m{abs(hash(request.node.nodeid))}_{len(names)}"
        write_model(server.model_repository, name, model, config, file)
        names.append(name)
        server.client.load_model(name)
        return name

    yield load
    for name in names:
        server.client.unload_model(name)


def graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[Info],
    outputs: Sequence[Info],
    initializers: Sequence[onnx.TensorProto] = (),
    ir_version: int = 10,
) -> onnx.ModelProto:
    infos = [[helper.make_tensor_value_info(*info) for info in part] for part in (inputs, outputs)]
    made = helper.make_graph(list(nodes), "test", *infos, list(initializers))
    opset = [helper.make_opsetid("", 21)]
    return helper.make_model(made, ir_version=ir_version, opset_imports=opset)


def identity(
    dtype: int = TensorProto.FLOAT,
    shape: Sequence[int | str | None] = ("batch", "n"),
    ir_version: int = 10,
) -> onnx.ModelProto:
    node = helper.make_node("Identity", ["X"], ["Y"])
    return graph([node], [("X", dtype, shape)], [("Y", dtype, shape)], (), ir_version)


def io(kind: str, name: str, dtype: str = "FP32", dims: str = "-1", more: str = "") -> str:
    return f'{kind} {{ name: "{name}" data_type: TYPE_{dtype} dims: [{dims}] {more} }}\n'


def infer(
    server: TritonServer,
    model: str,
    inputs: dict[str, np.ndarray[Any, Any]],
    outputs: Sequence[str] = ("Y",),
) -> list[np.ndarray[Any, Any]]:
    tensors = []
    for name, array in inputs.items():
        tensors.append(grpc.InferInput(name, array.shape, np_to_triton_dtype(array.dtype)))
        tensors[-1].set_data_from_numpy(array)
    asked = [grpc.InferRequestedOutput(name) for name in outputs]
    result = server.client.infer(model, tensors, outputs=asked)
    assert {output.name for output in result.get_response().outputs} == set(outputs)
    return [result.as_numpy(name) for name in outputs]


def config_of(server: TritonServer, model: str) -> dict[str, Any]:
    answer = server.client.get_model_config(model, as_json=True)
    return dict(answer["config"])


def test_every_data_type_arrives_and_returns_unchanged(server: TritonServer, load: Any) -> None:
    arrays = {
        "BOOL": np.array([[True, False]]),
        **{
            name: np.array([[np.iinfo(name.lower()).min, np.iinfo(name.lower()).max]], name.lower())
            for name in ("UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64")
        },
        "FP16": np.array([[0.5, np.inf]], np.float16),
        "FP32": np.array([[1e-45, -np.inf]], np.float32),
        "FP64": np.array([[1e-320, np.pi]], np.float64),
        "STRING": np.array([[b"", "größer 😀".encode()]], object),
    }
    onnx_types = {"FP16": "FLOAT16", "FP32": "FLOAT", "FP64": "DOUBLE"}
    types = {name: getattr(TensorProto, onnx_types.get(name, name)) for name in arrays}
    model = load(
        graph(
            [helper.make_node("Identity", [f"x_{name}"], [f"y_{name}"]) for name in arrays],
            [(f"x_{name}", dtype, ("batch", 2)) for name, dtype in types.items()],
            [(f"y_{name}", dtype, ("batch", 2)) for name, dtype in types.items()],
        ),
        HEAD
        + "max_batch_size: 4\n"
        + "".join(io("input", f"x_{n}", n, "2") + io("output", f"y_{n}", n, "2") for n in arrays),
    )
    returned = infer(
        server,
        model,
        {f"x_{name}": array for name, array in arrays.items()},
        [f"y_{name}" for name in arrays],
    )
    for array, back in zip(arrays.values(), returned, strict=True):
        assert back.dtype == array.dtype
        np.testing.assert_array_equal(back, array)


def test_requests_of_a_batch_share_one_run(server: TritonServer, load: Any) -> None:
    """SEEN is the batch size that the graph itself sees."""
    nodes = [
        helper.make_node("Shape", ["X"], ["size"], start=0, end=1),
        helper.make_node("Expand", ["size", "column"], ["SEEN"]),
        helper.make_node("Mul", ["X", "two"], ["Y"]),
        helper.make_node("Concat", ["size", "one"], ["column"], axis=0),
    ]
    nodes = [nodes[0], nodes[3], nodes[1], nodes[2]]
    constants = [
        helper.make_tensor("one", TensorProto.INT64, [1], [1]),
        helper.make_tensor("two", TensorProto.FLOAT, [1], [2.0]),
    ]
    seen: Info = ("SEEN", TensorProto.INT64, ("batch", 1))
    model = load(
        graph(
            nodes,
            [("X", TensorProto.FLOAT, ("batch", "n"))],
            [("Y", TensorProto.FLOAT, ("batch", "n")), seen],
            constants,
        ),
        HEAD + BATCH + io("input", "X") + io("output", "Y") + io("output", "SEEN", "INT64", "1"),
    )
    sent = [np.full((size, 3), 10.0 * size, np.float32) for size in (1, 2, 1)]
    with ThreadPoolExecutor(3) as pool:
        answers = list(
            pool.map(lambda array: infer(server, model, {"X": array}, ["Y", "SEEN"]), sent)
        )
    for array, (doubled, seen_sizes) in zip(sent, answers, strict=True):
        np.testing.assert_array_equal(doubled, 2 * array)
        np.testing.assert_array_equal(seen_sizes, np.full((len(array), 1), 4))


def test_a_bad_request_does_not_fail_its_batch_mates(server: TritonServer, load: Any) -> None:
    table = helper.make_tensor("table", TensorProto.FLOAT, [3], [10.0, 11.0, 12.0])
    model = load(
        graph(
            [helper.make_node("Gather", ["table", "X"], ["Y"])],
            [("X", TensorProto.INT64, ("batch", 1))],
            [("Y", TensorProto.FLOAT, ("batch", 1))],
            [table],
        ),
        HEAD + BATCH + io("input", "X", "INT64", "1") + io("output", "Y", dims="1"),
    )

    def ask(index: int) -> float | str:
        try:
            return float(infer(server, model, {"X": np.array([[index]])})[0][0, 0])
        except InferenceServerException as error:
            return f"{error.status()} {error.message()}"

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, (0, 1, 77, 2)))
    assert [answers[0], answers[1], answers[3]] == [10.0, 11.0, 12.0]
    assert str(answers[2]).endswith("an input holds the index 77; the model knows 0 to 2")
    assert "INVALID_ARGUMENT" in str(answers[2])
    stats = server.client.get_inference_statistics(model, as_json=True)["model_stats"][0]
    assert stats["execution_count"] == "1", "the four requests were one batch"


def test_only_requested_outputs_are_returned(server: TritonServer, load: Any) -> None:
    """`infer` asserts that the response holds just these."""
    nodes = [helper.make_node("Neg", ["X"], [name]) for name in ("A", "B", "C")]
    outputs: list[Info] = [(name, TensorProto.FLOAT, (2,)) for name in ("A", "B", "C")]
    config = HEAD + io("input", "X", dims="2")
    model = load(
        graph(nodes, [("X", TensorProto.FLOAT, (2,))], outputs),
        config + "".join(io("output", name, dims="2") for name in ("A", "B", "C")),
    )
    x = np.array([1.0, 2.0], np.float32)
    for names in (["B"], ["C", "A"], ["A", "B", "C"]):
        for back in infer(server, model, {"X": x}, names):
            assert back.tolist() == [-1.0, -2.0]


def test_shared_memory_carries_the_servers_prefix(server: TritonServer, load: Any) -> None:
    """So that the server can remove it, also after a crash."""
    load(identity(), FULL)
    maps = Path(f"/proc/{server.pid}/maps").read_text()
    regions = {line.split()[-1] for line in maps.splitlines() if "/dev/shm/" in line}
    assert regions
    assert all(region.startswith(f"/dev/shm/{server.shm_prefix}") for region in regions)


def test_without_batching_a_scalar_of_the_graph_has_dims_1(server: TritonServer, load: Any) -> None:
    model = load(
        identity(shape=()), HEAD + io("input", "X", dims="1") + io("output", "Y", dims="1")
    )
    (back,) = infer(server, model, {"X": np.array([2.5], np.float32)})
    assert back.tolist() == [2.5]


def test_reshape_of_the_config_reaches_the_graph(server: TritonServer, load: Any) -> None:
    """One value per item of a batch: dims [1] outside, no dim inside."""
    scalar = "reshape: { shape: [] }"
    model = load(
        identity(shape=("batch",)),
        HEAD
        + "max_batch_size: 4\n"
        + io("input", "X", dims="1", more=scalar)
        + io("output", "Y", dims="1", more=scalar),
    )
    (back,) = infer(server, model, {"X": np.array([[1.0], [2.0]], np.float32)})
    assert back.tolist() == [[1.0], [2.0]]


def test_an_initializer_is_an_optional_input(server: TritonServer, load: Any) -> None:
    default = helper.make_tensor("B", TensorProto.FLOAT, [2], [100.0, 200.0])
    model = load(
        graph(
            [helper.make_node("Add", ["X", "B"], ["Y"])],
            [("X", TensorProto.FLOAT, (2,)), ("B", TensorProto.FLOAT, (2,))],
            [("Y", TensorProto.FLOAT, (2,))],
            [default],
        ),
        HEAD
        + io("input", "X", dims="2")
        + io("input", "B", dims="2", more="optional: true")
        + io("output", "Y", dims="2"),
    )
    x = np.array([1.0, 2.0], np.float32)
    assert infer(server, model, {"X": x})[0].tolist() == [101.0, 202.0]
    assert infer(server, model, {"X": x, "B": x})[0].tolist() == [2.0, 4.0]


@pytest.mark.parametrize(
    ("dtype", "onnx_type"), [("FP32", TensorProto.FLOAT), ("STRING", TensorProto.STRING)]
)
def test_a_tensor_may_be_empty(server: TritonServer, load: Any, dtype: str, onnx_type: int) -> None:
    model = load(
        identity(onnx_type),
        HEAD + "max_batch_size: 4\n" + io("input", "X", dtype) + io("output", "Y", dtype),
    )
    empty = np.empty((2, 0), object if dtype == "STRING" else np.float32)
    (back,) = infer(server, model, {"X": empty})
    assert back.shape == (2, 0)


def test_a_string_that_is_not_utf8_is_an_invalid_argument(server: TritonServer, load: Any) -> None:
    model = load(
        identity(TensorProto.STRING),
        HEAD + "max_batch_size: 4\n" + io("input", "X", "STRING") + io("output", "Y", "STRING"),
    )
    with pytest.raises(
        InferenceServerException, match="'X' has a string that is not UTF-8"
    ) as caught:
        infer(server, model, {"X": np.array([[b"\xff"]], object)})
    assert "INVALID_ARGUMENT" in caught.value.status()


def test_config_is_completed_for_a_graph_that_batches(server: TritonServer, load: Any) -> None:
    nodes = [
        helper.make_node("Identity", ["b"], ["y"]),
        helper.make_node("Identity", ["a"], ["z"]),
    ]
    model = load(
        graph(
            nodes,
            [("b", TensorProto.FLOAT, ("batch", 3, "n")), ("a", TensorProto.INT64, ("batch",))],
            [("z", TensorProto.INT64, ("batch",)), ("y", TensorProto.FLOAT, ("batch", 3, "n"))],
        ),
        HEAD,
    )
    config = config_of(server, model)
    assert config["max_batch_size"] == 4
    assert "dynamic_batching" in config
    scalar = {"name": "a", "data_type": "TYPE_INT64", "dims": ["1"], "reshape": {}}
    assert config["input"] == [
        scalar,
        {"name": "b", "data_type": "TYPE_FP32", "dims": ["3", "-1"]},
    ]
    assert [output["name"] for output in config["output"]] == ["y", "z"]
    a, b = np.array([[7], [8]]), np.ones((2, 3, 5), np.float32)
    z, y = infer(server, model, {"a": a, "b": b}, ["z", "y"])
    np.testing.assert_array_equal(z, a)
    np.testing.assert_array_equal(y, b)


def test_config_is_completed_for_a_graph_without_batch_dim(server: TritonServer, load: Any) -> None:
    model = load(identity(shape=(2, "n")), HEAD + io("output", "Y", dims="2, -1"))
    config = config_of(server, model)
    assert config.get("max_batch_size", 0) == 0
    assert "dynamic_batching" not in config
    assert config["input"] == [{"name": "X", "data_type": "TYPE_FP32", "dims": ["2", "-1"]}]


def test_default_model_filename_is_honoured(server: TritonServer, load: Any) -> None:
    model = load(
        identity(shape=(2,)), HEAD + 'default_model_filename: "other.onnx"\n', "other.onnx"
    )
    assert infer(server, model, {"X": np.ones(2, np.float32)})[0].tolist() == [1.0, 1.0]


FULL = HEAD + "max_batch_size: 4\n" + io("input", "X") + io("output", "Y")


@pytest.mark.parametrize(
    ("model", "config", "message"),
    [
        (None, FULL, r"unable to find '.*/1/model\.onnx' for model instance"),
        (identity(ir_version=99), FULL, "Unsupported model IR version: 99"),
        (identity(), FULL.replace('"Y"', '"Z"'), "unexpected inference output 'Z'.*are: Y"),
        (identity(), FULL.replace("FP32", "INT32", 1), "datatype TYPE_INT32 .* provides TYPE_FP32"),
        (
            identity(),
            FULL.replace("[-1]", "[-1, 3]", 1),
            r"expects 2 dim.*complete shape \[-1,-1,3",
        ),
        (identity(), FULL + io("input", "W"), "configuration expects 2 inputs, model provides 1"),
        (identity(shape=(1, 2)), FULL, r"first dimension must be -1; .* model is \[1,2\]"),
        (identity(TensorProto.BFLOAT16), FULL.replace("FP32", "BF16"), "TYPE_BF16"),
        (
            identity(),
            FULL + 'parameters { key: "execution_mode" value: { string_value: "7" } }',
            "execution_mode is 7; it must be 0 or 1",
        ),
    ],
    ids=["file", "ir", "name", "dtype", "dims", "count", "batch", "bf16", "parameter"],
)
def test_a_model_that_cannot_be_served_says_why(
    load: Any, model: onnx.ModelProto | None, config: str, message: str
) -> None:
    with pytest.raises(InferenceServerException, match=message):
        load(model, config)


def test_a_missing_execution_provider_is_a_warning(server: TritonServer, load: Any) -> None:
    mark = server.log_end
    model = load(
        identity(),
        FULL + "optimization { execution_accelerators { "
        'cpu_execution_accelerator { name: "openvino" } } }',
    )
    assert "OpenVINOExecutionProvider is not in this onnxruntime wheel" in server.log_text(mark)
    assert infer(server, model, {"X": np.ones((1, 1), np.float32)})[0].tolist() == [[1.0]]


def read(config: dict[str, Any], kind: str = "CPU") -> tuple[Any, list[str]]:
    warnings: list[str] = []
    config = json.loads(json.dumps(config))
    return read_settings(config, kind=kind, device_id=1, warn=warnings.append), warnings


def test_parameters_become_session_options() -> None:
    values = {
        "intra_op_thread_count": "3",
        "inter_op_thread_count": "2",
        "execution_mode": "1",
        "enable_mem_arena": "0",
        "enable_mem_pattern": "0",
    }
    parameters = {name: {"string_value": value} for name, value in values.items()}
    optimization = {"graph": {"level": 1}}
    settings, _ = read({"parameters": parameters, "optimization": optimization})
    options = settings.session
    assert options.intra_op_num_threads == 3
    assert options.inter_op_num_threads == 2
    assert options.execution_mode == ort.ExecutionMode.ORT_PARALLEL
    assert options.enable_cpu_mem_arena is False
    assert options.enable_mem_pattern is False
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    assert settings.providers == ["CPUExecutionProvider"]


def test_a_gpu_instance_asks_for_tensorrt_then_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    available = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: available)
    tensorrt = {
        "name": "tensorrt",
        "parameters": {"precision_mode": "FP16", "max_workspace_size_bytes": "1024"},
    }
    accelerators = {"gpu_execution_accelerator": [tensorrt]}
    config = {"optimization": {"execution_accelerators": accelerators}}
    settings, warnings = read(config, "GPU")
    assert warnings == []
    assert settings.providers == [
        (
            "TensorrtExecutionProvider",
            {"trt_fp16_enable": "1", "trt_max_workspace_size": "1024", "device_id": "1"},
        ),
        ("CUDAExecutionProvider", {"device_id": "1"}),
        "CPUExecutionProvider",
    ]


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_an_unknown_accelerator_is_refused(kind: str) -> None:
    accelerators = {f"{kind}_execution_accelerator": [{"name": "warp"}]}
    with pytest.raises(SettingError, match="unknown Execution Accelerator 'warp'"):
        read({"optimization": {"execution_accelerators": accelerators}}, kind.upper())


def test_the_backend_folder_is_no_package() -> None:
    """With an __init__.py it would shadow the onnxruntime wheel inside Triton."""
    folder = Path(read_settings.__code__.co_filename).parent
    assert folder.name == "onnxruntime"
    assert not (folder / "__init__.py").exists()
