"""Batching, instances and run-time settings of one model, in Triton's terms."""

from typing import Literal

from pydantic import Field, model_validator

from builder.spec.base import PositiveInt, Strict
from builder.spec.triton.dynamic_batching import DynamicBatching
from builder.spec.triton.instances import InstanceGroup
from builder.spec.triton.model import StageSettings, require_sizes


class Batched(StageSettings):
    """Settings that every batched stage has."""

    max_batch_size: PositiveInt = Field(default=8, description="Most requests in one run.")
    dynamic_batching: DynamicBatching | None = Field(
        default_factory=DynamicBatching, description="null turns the dynamic batcher off."
    )
    instances: InstanceGroup = Field(default_factory=InstanceGroup)

    @model_validator(mode="after")
    def _preferred_sizes_fit(self) -> "Batched":
        preferred = self.dynamic_batching.preferred_batch_size if self.dynamic_batching else []
        require_sizes(preferred, self.max_batch_size)
        return self


class OnnxRuntime(Strict):
    """ONNX Runtime session settings, named as in Triton's onnxruntime backend."""

    intra_op_thread_count: int = Field(default=1, ge=0, description="0: ONNX Runtime decides.")
    inter_op_thread_count: int = Field(default=1, ge=0)
    execution_mode: Literal["sequential", "parallel"] = "sequential"
    graph_optimization: Literal["all", "extended", "basic", "off"] = Field(
        default="all", description="Triton's optimization.graph.level: 0, 1, -1 and 2."
    )


__all__ = ["Batched", "DynamicBatching", "InstanceGroup", "OnnxRuntime", "PositiveInt", "Strict"]
