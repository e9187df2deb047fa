"""The config as Triton completes it before it looks at it.

Three steps, as in the server: the server fills in name, platform, backend and file name from
what lies in the folder; then the defaults (version policy, preferred sizes, pinned memory,
instances); then the backend, here ONNX Runtime, fills in inputs, outputs and batching from the
model file. What another backend or a Python model would fill in cannot be known without running
it. Mirrors `AutoCompleteBackendFields`, `NormalizeModelConfig` and `NormalizeInstanceGroup` of
https://github.com/triton-inference-server/core/blob/r24.10/src/model_config_utils.cc and
`ModelState::AutoCompleteConfig` of
https://github.com/triton-inference-server/onnxruntime_backend/blob/r24.10/src/onnxruntime.cc
"""

from onnx import TensorProto
from tritonclient.grpc import model_config_pb2 as pb

from builder.validate.onnx_graph import GraphSignature, TensorSignature
from builder.validate.repository import Folder
from builder.validate.target import Target

SEQUENCE_IDLE_MICROSECONDS = 1_000_000
DEFAULT_MAX_BATCH_SIZE = 4
"""Triton's backend default `default-max-batch-size`."""
TWO_CPU_INSTANCES = frozenset({"tensorflow", "onnxruntime"})
"""Backends that get two instances on a CPU by default."""

ONNX_TYPES: dict[int, pb.DataType] = {
    TensorProto.BOOL: pb.TYPE_BOOL,
    TensorProto.UINT8: pb.TYPE_UINT8,
    TensorProto.UINT16: pb.TYPE_UINT16,
    TensorProto.UINT32: pb.TYPE_UINT32,
    TensorProto.UINT64: pb.TYPE_UINT64,
    TensorProto.INT8: pb.TYPE_INT8,
    TensorProto.INT16: pb.TYPE_INT16,
    TensorProto.INT32: pb.TYPE_INT32,
    TensorProto.INT64: pb.TYPE_INT64,
    TensorProto.FLOAT16: pb.TYPE_FP16,
    TensorProto.FLOAT: pb.TYPE_FP32,
    TensorProto.DOUBLE: pb.TYPE_FP64,
    TensorProto.STRING: pb.TYPE_STRING,
}
"""Triton's data type of an ONNX element type in every release of the backend."""


def triton_type(onnx_type: int, target: Target) -> "pb.DataType | None":
    """Triton's data type of an ONNX element type; None where the backend has none for it.

    bfloat16 has one since 26.03 (onnxruntime_utils.cc, line 295, at r26.03), complex never.
    """
    if onnx_type == TensorProto.BFLOAT16 and target.has("onnx-bfloat16"):
        return pb.TYPE_BF16
    return ONNX_TYPES.get(onnx_type)


_FILES = (
    # file name, backend, platform, whether it must be a file
    ("model.plan", "tensorrt", "tensorrt_plan", True),
    ("model.onnx", "onnxruntime", "onnxruntime_onnx", False),
    ("model.xml", "openvino", "", False),
    ("model.pt", "pytorch", "pytorch_libtorch", True),  # see _complete_pytorch
    ("model.py", "python", "", False),
)


def complete_server_fields(
    config: pb.ModelConfig, name: str, version_folder: Folder | None, target: Target
) -> str:
    """Fill in name, platform, backend and file name; returns an error in words, or "".

    `version_folder` is the first folder by name inside the model's, which is the one that Triton
    looks at, or None where there is none.
    """
    if not config.name:
        config.name = name
    if _complete_tensorflow(config, version_folder):
        return ""
    for filename, backend, platform, must_be_file in _FILES:
        if backend == "pytorch":
            if _complete_pytorch(config, version_folder, target):
                return ""
            continue
        if not config.backend and (
            (platform and config.platform == platform) or config.default_model_filename == filename
        ):
            config.backend = backend
        elif not (config.backend or config.platform or config.default_model_filename):
            entry = version_folder.entries.get(filename) if version_folder else None
            if entry is not None and not (must_be_file and entry.is_dir):
                config.backend = backend
        if config.backend == backend:
            config.platform = config.platform or platform
            config.default_model_filename = config.default_model_filename or filename
            return ""
    if config.backend or config.platform or config.default_model_filename:
        return ""
    if "." not in name:
        return (
            "Triton cannot tell the backend: the config names none, and no version folder holds a "
            "file that it knows (model.onnx, model.plan, model.py, model.pt, model.xml)"
        )
    config.backend = name.partition(".")[2]
    config.default_model_filename = f"model.{config.backend}"
    return ""


def _complete_tensorflow(config: pb.ModelConfig, version_folder: Folder | None) -> bool:
    names = {"model.savedmodel": "tensorflow_savedmodel", "model.graphdef": "tensorflow_graphdef"}
    if not config.platform and config.backend in ("", "tensorflow"):
        if config.default_model_filename in names:
            config.platform = names[config.default_model_filename]
        elif not config.default_model_filename and version_folder is not None:
            for filename, platform in names.items():
                entry = version_folder.entries.get(filename)
                if entry is not None and entry.is_dir == (filename == "model.savedmodel"):
                    config.platform = platform
    for filename, platform in names.items():
        if config.platform == platform:
            config.backend = config.backend or "tensorflow"
            config.default_model_filename = config.default_model_filename or filename
            return True
    return False


def _complete_pytorch(
    config: pb.ModelConfig, version_folder: Folder | None, target: Target
) -> bool:
    """Lines 1203-1260 of the same file at r26.06, 1203-1250 at r26.03, 1164-1192 at r24.10."""
    aoti, sets_platform = target.has("torch-aoti"), target.has("torch-aoti-file")
    named = {"model.pt": "pytorch_libtorch"} | ({"model.pt2": "torch_aoti"} if aoti else {})
    if not config.backend:
        if config.platform in named.values() or config.default_model_filename in named:
            config.backend = "pytorch"
        elif not (config.platform or config.default_model_filename) and version_folder:
            there = [name for name in named if name in version_folder.entries]
            if there and not version_folder.entries[there[0]].is_dir:
                config.backend = "pytorch"
                config.platform = named[there[0]] if sets_platform else ""
    if config.backend != "pytorch":
        return False
    default = "" if config.runtime == "model.py" else "model.pt"
    if sets_platform:
        default = {"": "model.pt", "torch_aoti": "model.pt2"}.get(config.platform, "")
    config.platform = config.platform or "pytorch_libtorch"
    config.default_model_filename = config.default_model_filename or default
    return True


def normalize(config: pb.ModelConfig) -> None:
    """Fill in the defaults that do not depend on the backend."""
    if not config.HasField("version_policy"):
        config.version_policy.latest.num_versions = 1
    if config.HasField("dynamic_batching"):
        _prefer_maximum(config.dynamic_batching.preferred_batch_size, config.max_batch_size)
    if config.HasField("sequence_batching"):
        sequence = config.sequence_batching
        if not sequence.max_sequence_idle_microseconds:
            sequence.max_sequence_idle_microseconds = SEQUENCE_IDLE_MICROSECONDS
        if sequence.HasField("oldest"):
            _prefer_maximum(sequence.oldest.preferred_batch_size, config.max_batch_size)
    if not config.HasField("ensemble_scheduling"):
        for memory in ("input_pinned_memory", "output_pinned_memory"):
            if not config.optimization.HasField(memory):
                getattr(config.optimization, memory).enable = True


def _prefer_maximum(preferred: "pb.RepeatedScalarFieldContainer", max_batch_size: int) -> None:
    if not preferred and max_batch_size > 0:
        preferred.append(max_batch_size)


def normalize_instances(config: pb.ModelConfig, target: Target) -> None:
    """Fill in the instance groups; nothing for an ensemble, which has none."""
    if config.HasField("ensemble_scheduling"):
        return
    if not config.instance_group:
        config.instance_group.add(name=config.name)
    kinds = pb.ModelInstanceGroup
    for index, group in enumerate(config.instance_group):
        group.name = group.name or f"{config.name}_{index}"
        if group.kind == kinds.KIND_AUTO and target.gpus is not None:
            here = target.gpus > 0 and all(0 <= gpu < target.gpus for gpu in group.gpus)
            group.kind = kinds.KIND_GPU if here else kinds.KIND_CPU
        if group.count < 1:
            on_cpu = group.kind == kinds.KIND_CPU
            group.count = 2 if on_cpu and config.backend in TWO_CPU_INSTANCES else 1
        if group.kind == kinds.KIND_GPU and not group.gpus and target.gpus:
            group.gpus.extend(range(target.gpus))


def complete_from_onnx(config: pb.ModelConfig, graph: GraphSignature, target: Target) -> str:
    """Fill in inputs, outputs and batching from an ONNX graph; returns an error in words, or "".

    Does nothing where the config has both inputs and outputs.
    """
    has_inputs = bool(config.input) or bool(config.batch_input)
    has_outputs = bool(config.output)
    if has_inputs and has_outputs:
        return ""
    tensors = [*graph.inputs.values(), *graph.outputs.values()]
    if all(tensor.dims is not None and tensor.dims[:1] == (-1,) for tensor in tensors):
        if config.max_batch_size == 0:
            config.max_batch_size = DEFAULT_MAX_BATCH_SIZE
        if config.max_batch_size > 1 and config.WhichOneof("scheduling_choice") is None:
            config.dynamic_batching.SetInParent()
    elif config.max_batch_size != 0:
        return (
            f"max_batch_size is {config.max_batch_size}, but not every input and output of the "
            "graph has a free first dim, so the model cannot batch"
        )
    if not has_inputs:
        for name, tensor in sorted(graph.inputs.items()):
            _fill_tensor(config.input.add(name=name), tensor, config.max_batch_size > 0, target)
    if not has_outputs:
        for name, tensor in sorted(graph.outputs.items()):
            _fill_tensor(config.output.add(name=name), tensor, config.max_batch_size > 0, target)
    return ""


def _fill_tensor(
    io: pb.ModelInput | pb.ModelOutput, tensor: TensorSignature, batching: bool, target: Target
) -> None:
    io.data_type = triton_type(tensor.data_type, target) or pb.TYPE_INVALID
    io.dims.extend((tensor.dims or ())[1 if batching else 0 :])
    if not io.dims:
        io.dims.append(1)
        if batching:
            io.reshape.SetInParent()
