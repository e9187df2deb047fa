"""A model config's session options, run options and execution providers for ONNX Runtime.

Names, defaults and meanings are those of Triton's native ONNX Runtime backend, from its README:
https://github.com/triton-inference-server/onnxruntime_backend#other-optimization-options-with-onnx-runtime
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import onnxruntime as ort

Provider = str | tuple[str, dict[str, str]]
Warn = Callable[[str], None]

_TRUE, _FALSE = {"1", "true", "on", "yes"}, {"0", "false", "off", "no"}
_GRAPH_LEVELS = {
    -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    0: ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
_PRECISIONS = {"FP16": "trt_fp16_enable", "BF16": "trt_bf16_enable", "INT8": "trt_int8_enable"}
_TENSORRT_RENAMED = {
    "max_workspace_size_bytes": "trt_max_workspace_size",
    "int8_calibration_table_name": "trt_int8_calibration_table_name",
    "int8_use_native_calibration_table": "trt_int8_use_native_calibration_table",
}
# Parameters of the whole model that the native backend hands to the CUDA provider; its README
# calls them deprecated. Numbers stand for names.
_CUDA_PARAMETERS: dict[str, dict[str, str]] = {
    "cudnn_conv_algo_search": {"0": "EXHAUSTIVE", "1": "HEURISTIC", "2": "DEFAULT"},
    "arena_extend_strategy": {"0": "kNextPowerOfTwo", "1": "kSameAsRequested"},
    "gpu_mem_limit": {},
    "do_copy_in_default_stream": {},
}


class SettingError(Exception):
    """A parameter of the model config has a value that ONNX Runtime does not take."""


@dataclass(frozen=True)
class Settings:
    """Everything that an `onnxruntime.InferenceSession` is made with, but the file."""

    session: ort.SessionOptions
    run: ort.RunOptions
    providers: list[Provider]


def read_settings(config: Mapping[str, Any], *, kind: str, device_id: int, warn: Warn) -> Settings:
    """Settings of a model config (as JSON) for an instance of `kind` "CPU" or "GPU".

    `warn` is told what this onnxruntime wheel cannot do. Raises `SettingError`.
    """
    parameters = {
        name: str(value.get("string_value", ""))
        for name, value in config.get("parameters", {}).items()
    }
    return Settings(
        session=_session_options(config, parameters, warn),
        run=_run_options(parameters),
        providers=_providers(config, parameters, kind=kind, device_id=device_id, warn=warn),
    )


def _session_options(
    config: Mapping[str, Any], parameters: Mapping[str, str], warn: Warn
) -> ort.SessionOptions:
    options = ort.SessionOptions()
    level = int(config.get("optimization", {}).get("graph", {}).get("level", 0))
    options.graph_optimization_level = _GRAPH_LEVELS.get(level, _GRAPH_LEVELS[0])
    mode = _integer(parameters, "execution_mode")
    if mode not in {0, 1}:
        raise SettingError(f"parameter execution_mode is {mode}; it must be 0 or 1")
    options.execution_mode = (
        ort.ExecutionMode.ORT_PARALLEL if mode else ort.ExecutionMode.ORT_SEQUENTIAL
    )
    if (threads := _integer(parameters, "intra_op_thread_count")) > 0:
        options.intra_op_num_threads = threads
    if (threads := _integer(parameters, "inter_op_thread_count")) > 0:
        options.inter_op_num_threads = threads
    if "enable_mem_arena" in parameters:
        options.enable_cpu_mem_arena = _boolean(parameters, "enable_mem_arena")
    if "enable_mem_pattern" in parameters:
        options.enable_mem_pattern = _boolean(parameters, "enable_mem_pattern")
    entry = "session.use_device_allocator_for_initializers"
    if entry in parameters:
        options.add_session_config_entry(entry, parameters[entry])
    if parameters.get("share_session_between_instances", "").lower() in _TRUE:
        warn("share_session_between_instances: instances are processes here, each has a session")
    for library in config.get("model_operations", {}).get("op_library_filename", ()):
        options.register_custom_ops_library(library)
    return options


def _run_options(parameters: Mapping[str, str]) -> ort.RunOptions:
    options = ort.RunOptions()
    entry = "memory.enable_memory_arena_shrinkage"
    if entry in parameters:
        options.add_run_config_entry(entry, parameters[entry])
    return options


def _providers(
    config: Mapping[str, Any],
    parameters: Mapping[str, str],
    *,
    kind: str,
    device_id: int,
    warn: Warn,
) -> list[Provider]:
    """Providers from the most to the least preferred; the CPU is always the last."""
    accelerators = config.get("optimization", {}).get("execution_accelerators", {})
    asked: list[tuple[str, dict[str, str]]] = []
    if kind == "GPU":
        cuda = _cuda_parameters(parameters)
        for accelerator in accelerators.get("gpu_execution_accelerator", ()):
            options = dict(accelerator.get("parameters", {}))
            if accelerator["name"] == "tensorrt":
                options = _tensorrt_options(options)
                asked.append(
                    ("TensorrtExecutionProvider", {**options, "device_id": str(device_id)})
                )
            elif accelerator["name"] == "cuda":
                cuda.update(options)
            else:
                raise _unknown(accelerator["name"])
        asked.append(("CUDAExecutionProvider", {**cuda, "device_id": str(device_id)}))
    for accelerator in accelerators.get("cpu_execution_accelerator", ()):
        if accelerator["name"] != "openvino":
            raise _unknown(accelerator["name"])
        asked.append(("OpenVINOExecutionProvider", {"device_type": "CPU"}))
    available = set(ort.get_available_providers())
    providers: list[Provider] = []
    for name, options in asked:
        if name in available:
            providers.append((name, options))
        else:
            warn(
                f"{name} is not in this onnxruntime wheel ({', '.join(sorted(available))}): "
                "the model runs without it"
            )
    return [*providers, "CPUExecutionProvider"]


def _unknown(name: str) -> SettingError:
    return SettingError(f"unknown Execution Accelerator '{name}' is requested")


def _tensorrt_options(parameters: Mapping[str, str]) -> dict[str, str]:
    options = {}
    for name, value in parameters.items():
        if name == "precision_mode":
            if value in _PRECISIONS:
                options[_PRECISIONS[value]] = "1"
            elif value != "FP32":
                raise SettingError(f"unsupported precision mode '{value}' is requested")
        elif name in _TENSORRT_RENAMED or name.startswith("trt_"):
            options[_TENSORRT_RENAMED.get(name, name)] = value
        else:
            raise SettingError(
                f"unknown parameter '{name}' is provided for TensorRT Execution Accelerator"
            )
    return options


def _cuda_parameters(parameters: Mapping[str, str]) -> dict[str, str]:
    options = {}
    for name, values in _CUDA_PARAMETERS.items():
        value = parameters.get(name)
        if value is None:
            continue
        if values and value not in values:
            raise SettingError(f"unsupported {name} value '{value}' is requested")
        options[name] = values.get(value, value)
    return options


def _integer(parameters: Mapping[str, str], name: str) -> int:
    text = parameters.get(name, "0")
    try:
        return int(text)
    except ValueError:
        raise SettingError(f"parameter {name} is '{text}', not a whole number") from None


def _boolean(parameters: Mapping[str, str], name: str) -> bool:
    text = parameters[name].lower()
    if text not in _TRUE | _FALSE:
        raise SettingError(f"parameter {name} is '{parameters[name]}', not 0 or 1")
    return text in _TRUE
