"""What Triton fills in, as far as it can be known without running it."""

from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from builder.validate import Target, load_models
from builder.validate.model import Model

from .conftest import MODEL_PY, Write
from .test_rules import graph


def load(root: Path, target: Target | None = None) -> Model:
    return load_models(root, target)["m"]


def test_backend_from_the_file(write: Write) -> None:
    for name, backend, platform in (
        ("model.onnx", "onnxruntime", "onnxruntime_onnx"),
        ("model.plan", "tensorrt", "tensorrt_plan"),
        ("model.py", "python", ""),
        ("model.xml", "openvino", ""),
        ("model.pt", "pytorch", "pytorch_libtorch"),
        ("model.graphdef", "tensorflow", "tensorflow_graphdef"),
    ):
        folder = name.partition(".")[2]
        root = write({f"{folder}/1/{name}": b""})
        config = load_models(root, Target(release="24.10"))[folder].config
        assert (config.name, config.backend, config.platform) == (folder, backend, platform)
        assert config.default_model_filename == name


def test_backend_from_the_model_name(write: Write) -> None:
    config = load_models(write({"my.identity/1": None}))["my.identity"].config
    assert (config.backend, config.default_model_filename) == ("identity", "model.identity")


def test_defaults(write: Write) -> None:
    config = load(
        write(
            {
                "m/config.pbtxt": 'backend: "python" max_batch_size: 8 dynamic_batching { }',
                "m/1/model.py": MODEL_PY,
            }
        )
    ).config
    assert config.version_policy.latest.num_versions == 1
    assert list(config.dynamic_batching.preferred_batch_size) == [8]
    assert config.optimization.input_pinned_memory.enable
    assert [(g.name, g.count) for g in config.instance_group] == [("m", 1)]


def test_instances_depend_on_the_server(write: Write) -> None:
    files = {"m/config.pbtxt": 'backend: "onnxruntime"', "m/1/model.onnx": graph()}
    kinds = pb.ModelInstanceGroup
    for gpus, kind, count, named in (
        (None, kinds.KIND_AUTO, 1, []),
        (0, kinds.KIND_CPU, 2, []),
        (2, kinds.KIND_GPU, 1, [0, 1]),
    ):
        group = load(write(files), Target(gpus=gpus)).config.instance_group[0]
        assert (group.kind, group.count, list(group.gpus)) == (kind, count, named)


def test_onnx_fills_in_tensors_and_batching(write: Write) -> None:
    config = load(write({"m/1/model.onnx": graph()})).config
    assert config.max_batch_size == 4
    assert config.HasField("dynamic_batching")
    assert [(i.name, i.data_type, list(i.dims)) for i in config.input] == [("X", pb.TYPE_FP32, [4])]
    assert [(o.name, list(o.dims)) for o in config.output] == [("Y", [4])]


def test_onnx_without_a_free_first_dim_does_not_batch(write: Write) -> None:
    config = load(write({"m/1/model.onnx": graph([2, 4])})).config
    assert config.max_batch_size == 0
    assert list(config.input[0].dims) == [2, 4]
    assert not config.HasField("dynamic_batching")


def test_a_scalar_in_a_batch_is_reshaped(write: Write) -> None:
    model_input = load(write({"m/1/model.onnx": graph(["batch"])})).config.input[0]
    assert list(model_input.dims) == [1]
    assert model_input.HasField("reshape")
    assert list(model_input.reshape.shape) == []


def test_what_the_config_says_stays(write: Write) -> None:
    text = (
        'backend: "onnxruntime" input { name: "A" data_type: TYPE_INT8 dims: 7 } '
        'output { name: "B" data_type: TYPE_INT8 dims: 7 }'
    )
    model = load(write({"m/config.pbtxt": text, "m/1/model.onnx": graph()}))
    written = text_format.Parse(text, pb.ModelConfig())
    assert model.declared == written
    assert model.config.input == written.input
    assert model.config.max_batch_size == 0


def test_versions(write: Write) -> None:
    root = write(
        {
            "m/config.pbtxt": 'backend: "python"',
            **dict.fromkeys([f"m/{name}" for name in ("1", "3", "10", "02", "v4", "warmup")]),
        }
    )
    model = load(root)
    assert list(model.all_versions) == [1, 3, 10]
    assert model.versions == [10]
    model.config.version_policy.latest.num_versions = 2
    del model.__dict__["versions"]
    assert model.versions == [3, 10]
