"""Optimization and execution accelerators."""

from collections.abc import Iterator

from tritonclient.grpc import model_config_pb2 as pb

from builder.validate.findings import Problem
from builder.validate.model import Model
from builder.validate.registry import rule

_SECTION = "optimization and accelerators"
_ONNX_GPU = ("tensorrt", "cuda")
_ONNX_CPU = ("openvino",)


@rule(
    "optimization.ensemble",
    section=_SECTION,
    reason="an ensemble has nothing to optimize; its steps have",
    source="config",
)
def ensembles_have_no_optimization(model: Model) -> Iterator[Problem]:
    """No `optimization` in an ensemble."""
    if model.is_ensemble and model.config.HasField("optimization"):
        yield Problem(
            "optimization",
            "an ensemble cannot have optimization",
            "move it to the models of the steps",
        )


@rule(
    "optimization.accelerator",
    section=_SECTION,
    reason="ONNX Runtime refuses an execution provider that it was not built with",
    source="onnxruntime",
)
def accelerators_are_known(model: Model) -> Iterator[Problem]:
    """Accelerators of an ONNX model are those that Triton's ONNX Runtime has.

    Those for GPUs are looked at only where an instance may be on a GPU.
    """
    if model.backend != "onnxruntime":
        return
    accelerators = model.config.optimization.execution_accelerators
    fields: list[tuple[str, tuple[str, ...]]] = [("cpu_execution_accelerator", _ONNX_CPU)]
    kinds = (pb.ModelInstanceGroup.KIND_GPU, pb.ModelInstanceGroup.KIND_AUTO)
    if any(group.kind in kinds for group in model.config.instance_group):
        fields.append(("gpu_execution_accelerator", _ONNX_GPU))
    for field, known in fields:
        for index, accelerator in enumerate(getattr(accelerators, field)):
            if accelerator.name not in known:
                yield Problem(
                    f"optimization.execution_accelerators.{field}[{index}].name",
                    f"ONNX Runtime has no accelerator {accelerator.name!r} there",
                    f"use one of {', '.join(known)}",
                )


@rule(
    "optimization.ignored-accelerator",
    section=_SECTION,
    reason="only the ONNX Runtime and TensorFlow backends read execution_accelerators",
    source="docs_optimization",
    severity="advice",
)
def accelerators_are_read(model: Model) -> Iterator[Problem]:
    """Accelerators are set where a backend reads them."""
    readers = ("onnxruntime", "tensorflow")
    accelerators = model.config.optimization.execution_accelerators
    named = [*accelerators.gpu_execution_accelerator, *accelerators.cpu_execution_accelerator]
    if named and model.backend not in readers:
        yield Problem(
            "optimization.execution_accelerators",
            f"the backend {model.backend!r} ignores execution accelerators",
            "remove them",
        )
