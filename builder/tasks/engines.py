"""What runs a task's graphs in the server: configs, stages, files and parity of each engine."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from builder.errors import ExportError, SpecError
from builder.render.model_config import ModelConfig
from builder.runtime.models.common.settings import from_parameters, to_parameters
from builder.runtime.models.openvino_model.openvino_settings import OpenVinoSettings
from builder.runtime.models.torch_model.torch_settings import TorchSettings
from builder.spec.engines import OpenVino, Torch, TorchCompile
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
    if model.engine == "openvino" and spec.target != "cpu":
        raise SpecError("engine: openvino is for target: cpu")
    settings_of = _openvino_settings if model.engine == "openvino" else _torch_settings
    # The stage warms up by itself: Triton's warmup would be one shape, and masked tokens only.
    return [
        replace(
            config,
            backend="python",
            parameters=to_parameters(settings_of(config, task, spec)),
            graph_level=None,
            warmup=(),
        )
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


def _shapes(config: ModelConfig, buckets: Sequence[int]) -> tuple[dict[str, tuple[int, ...]], ...]:
    """Dims of every input, once for each bucket; the last dim that varies is the length."""
    dims = {tensor.name: tensor.dims for tensor in config.warmup[0].inputs}
    long = {tensor.name for tensor in config.inputs if tensor.dims and tensor.dims[-1] == -1}
    if not buckets or not long:
        return (dims,)
    return tuple(
        {name: (*d[:-1], bucket) if name in long else d for name, d in dims.items()}
        for bucket in buckets
    )


def _openvino_settings(config: ModelConfig, task: Task, spec: TaskSpec) -> OpenVinoSettings:
    settings = spec.model.openvino or OpenVino()
    return OpenVinoSettings(
        index_limits=_index_limits(task),
        threads=settings.threads,
        warmup_batch_sizes=tuple(sorted({1, spec.model.max_batch_size})),
        warmup_shapes=_shapes(config, task.describe().buckets),
        precision=settings.precision,
    )


def _torch_settings(config: ModelConfig, task: Task, spec: TaskSpec) -> TorchSettings:
    if not isinstance(task, Headed):
        raise SpecError(f"engine: torch can't run {spec.task}; use onnxruntime")
    if spec.checkpoint.trust_remote_code:
        raise SpecError(
            "engine: torch can't run a checkpoint with code of its own (trust_remote_code); use "
            "onnxruntime"
        )
    settings = spec.model.torch or Torch()
    compiled = settings.compile
    return TorchSettings(
        index_limits=_index_limits(task),
        threads=settings.threads,
        warmup_batch_sizes=_compiled_sizes(compiled, spec.model.max_batch_size),
        warmup_shapes=_shapes(config, task.describe().buckets),
        auto_class=task.auto_class.__name__,
        head=task.head,
        head_parameters=dict(task.head_parameters()),
        attention=settings.attention,
        compile_mode=compiled.mode if compiled else "",
        dynamic=compiled.dynamic if compiled else True,
        freeze=compiled.freeze if compiled else False,
    )


def _compiled_sizes(compiled: TorchCompile | None, most: int) -> tuple[int, ...]:
    if compiled is None:
        return (1,)
    if compiled.dynamic:
        # torch compiles a size of one apart from all the others.
        return tuple(sorted({1, min(2, most), most}))
    powers = [2**exponent for exponent in range(most.bit_length()) if 2**exponent < most]
    return tuple(compiled.batch_sizes or [*powers, most])


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
        TorchRunner,
    )

    outputs = [tensor.name for tensor in config.outputs]
    runner = TorchRunner(folder, from_parameters(TorchSettings, config.parameters), outputs)

    def run(inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        return runner.run({name: np.ascontiguousarray(array) for name, array in inputs.items()})

    return run
