"""What runs a task's graphs in the server: configs, stages, files and parity of each engine."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from builder.errors import ExportError, SpecError
from builder.render.model_config import ModelConfig
from builder.spec.engines import OpenVino, Torch
from builder.spec.task import TaskSpec
from builder.tasks.parity import Run
from builder.tasks.task import Graph, Task

STAGES = {"openvino": "openvino_model", "torch": "torch_model"}
"""Engine -> folder of its stage in `runtime/models`."""

_REQUIREMENTS = {
    "openvino": ["openvino>=2025.0"],
    "torch": ["safetensors>=0.4", "torch>=2.6", "transformers>=5,<6"],
}


@runtime_checkable
class Headed(Protocol):
    """A task whose checkpoint the torch engine can run."""

    auto_class: Any
    """`AutoModelFor...`."""
    head: str
    """A key of `torch_model.heads.HEADS`."""

    def head_parameters(self) -> Mapping[str, Any]:
        """Arguments of the head."""


def _graph_names(task: Task, spec: TaskSpec) -> list[str]:
    return [c.name for c in task.configs() if c.backend == "onnxruntime" and c.name != spec.name]


def engine_configs(task: Task, spec: TaskSpec) -> list[ModelConfig]:
    """The configs of a task, its graphs on the engine of the spec.

    Raises:
        SpecError: the engine can't run the task.
    """
    model, configs = spec.model, task.configs()
    if model.engine == "onnxruntime":
        return configs
    if not any(config.backend == "onnxruntime" for config in configs):
        raise SpecError(f"engine: {model.engine} can't run {spec.task}; only onnxruntime can")
    if model.engine == "openvino":
        if spec.target != "cpu":
            raise SpecError("engine: openvino is for target: cpu")
        settings = model.openvino or OpenVino()
        own = {"threads": str(settings.threads), "precision": settings.precision}
        sizes = sorted({1, model.max_batch_size})
    else:
        own, sizes = _torch_parameters(task, spec)
    own["index_limits"] = json.dumps(_index_limits(task))
    return [
        _on_engine(config, own, sizes, task.describe().buckets)
        if config.backend == "onnxruntime"
        else config
        for config in configs
    ]


def _index_limits(task: Task) -> dict[str, int]:
    """Input of the graphs -> rows of the table that its values are looked up in, where known."""
    config = task.files.config.get_text_config()
    tables = {"input_ids": "vocab_size", "token_type_ids": "type_vocab_size"}
    inputs = {tensor.name for tensor in task.describe().graph_inputs}
    found = {name: getattr(config, key, None) for name, key in tables.items() if name in inputs}
    return {name: int(rows) for name, rows in found.items() if rows}


def _on_engine(
    config: ModelConfig, own: Mapping[str, str], sizes: Sequence[int], buckets: Sequence[int]
) -> ModelConfig:
    parameters = {
        **own,
        "warmup_batch_sizes": json.dumps(list(sizes)),
        "warmup_shapes": json.dumps(_shapes(config, buckets)),
    }
    # The stage warms up by itself: Triton's warmup would be one shape, and masked tokens only.
    return replace(config, backend="python", parameters=parameters, graph_level=None, warmup=())


def _shapes(config: ModelConfig, buckets: Sequence[int]) -> list[dict[str, list[int]]]:
    """Dims of every input, once for each bucket; the last dim that varies is the length."""
    dims = {tensor.name: list(tensor.dims) for tensor in config.warmup[0].inputs}
    long = {tensor.name for tensor in config.inputs if tensor.dims and tensor.dims[-1] == -1}
    if not buckets or not long:
        return [dims]
    return [
        {name: [*d[:-1], bucket] if name in long else d for name, d in dims.items()}
        for bucket in buckets
    ]


def _torch_parameters(task: Task, spec: TaskSpec) -> tuple[dict[str, str], list[int]]:
    if not isinstance(task, Headed):
        raise SpecError(f"engine: torch can't run {spec.task}; use onnxruntime")
    if spec.checkpoint.trust_remote_code:
        raise SpecError(
            "engine: torch can't run a checkpoint with code of its own (trust_remote_code); use "
            "onnxruntime"
        )
    most, settings = spec.model.max_batch_size, spec.model.torch or Torch()
    compiled = settings.compile
    parameters = {
        "auto_class": task.auto_class.__name__,
        "head": task.head,
        "head_parameters": json.dumps(dict(task.head_parameters())),
        "threads": str(settings.threads),
        "attention": settings.attention,
        "compile_mode": compiled.mode if compiled else "",
        "dynamic": str(compiled.dynamic if compiled else True).lower(),
        "freeze": str(compiled.freeze if compiled else False).lower(),
    }
    if compiled is None:
        return parameters, [1]
    if compiled.dynamic:
        # torch compiles a size of one apart from all the others.
        return parameters, sorted({1, min(2, most), most})
    powers = [2**exponent for exponent in range(most.bit_length()) if 2**exponent < most]
    return parameters, compiled.batch_sizes or [*powers, most]


def engine_stages(task: Task, spec: TaskSpec) -> dict[str, str]:
    """Name of a Python model -> folder of its sources, the engine's among them."""
    stage = STAGES.get(spec.model.engine)
    graphs = _graph_names(task, spec) if stage else []
    return {**task.stages(), **{name: str(stage) for name in graphs}}


def engine_requirements(task: Task, spec: TaskSpec) -> list[str]:
    """What the Python stages import."""
    lines = task.requirements()
    if spec.model.engine == "onnxruntime":
        return lines
    kept = [line for line in lines if not line.startswith("onnxruntime")]
    return sorted([*kept, *_REQUIREMENTS[spec.model.engine]])


def save_checkpoint(graph: Graph, folder: Path) -> None:
    """Write `config.json` and `model.safetensors`, fp32, of what a graph is made from.

    Raises:
        ExportError: the model can't be saved.
    """
    model: Any = graph.module.model
    try:
        model.save_pretrained(folder)
    except OSError:
        raise
    except Exception as error:
        raise ExportError(f"{graph.name}: the checkpoint can't be saved: {error}") from error


def openvino_run(path: Path, settings: OpenVino) -> Run:
    """Runs an ONNX graph as the served stage does.

    Raises:
        SpecError: OpenVINO is not installed.
    """
    try:
        from builder.runtime.models.openvino_model.session import (  # noqa: PLC0415 - an extra
            OpenVinoSession,
        )
    except ModuleNotFoundError as error:
        raise SpecError(
            "engine: openvino needs OpenVINO: pip install 'triton-repository-builder[openvino]'"
        ) from error
    session = OpenVinoSession(path, threads=settings.threads, precision=settings.precision)
    return session.run


def torch_run(folder: Path, config: ModelConfig) -> Run:
    """Runs a saved checkpoint as the served stage does, compiled where that is."""
    from builder.runtime.models.torch_model.runner import (  # noqa: PLC0415 - sets compilers up
        Settings,
        TorchRunner,
    )

    outputs = [tensor.name for tensor in config.outputs]
    runner = TorchRunner(folder, Settings.of(config.parameters, outputs))

    def run(inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        return runner.run({name: np.ascontiguousarray(array) for name, array in inputs.items()})

    return run
