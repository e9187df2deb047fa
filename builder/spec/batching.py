"""Batching, instances and run-time settings of one model, in Triton's terms."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Strict(BaseModel):
    """Base of every spec type: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


PositiveInt = Annotated[int, Field(ge=1)]


class DynamicBatching(Strict):
    """Triton's dynamic batcher."""

    preferred_batch_size: list[PositiveInt] = Field(
        default_factory=list, description="Batch sizes to form at once when the queue allows."
    )
    max_queue_delay_microseconds: int = Field(
        default=0, ge=0, description="Longest wait for more requests, in microseconds."
    )
    preserve_ordering: bool = Field(
        default=False, description="Send responses in the order of the requests."
    )


class InstanceGroup(Strict):
    """How many copies of a model run, and where."""

    count: PositiveInt = Field(default=1, description="Copies on each device.")
    kind: Literal["auto", "cpu", "gpu"] = Field(
        default="auto", description="auto: the target's own (cpu on cpu, gpu on gpu and tensorrt)."
    )
    gpus: list[Annotated[int, Field(ge=0)]] = Field(
        default_factory=list, description="CUDA devices; none: all that the server sees."
    )


class Batched(Strict):
    """Settings that every batched stage has."""

    max_batch_size: PositiveInt = Field(default=8, description="Most requests in one run.")
    dynamic_batching: DynamicBatching | None = Field(
        default_factory=DynamicBatching, description="null turns the dynamic batcher off."
    )
    instances: InstanceGroup = Field(default_factory=InstanceGroup)

    @model_validator(mode="after")
    def _preferred_sizes_fit(self) -> "Batched":
        preferred = self.dynamic_batching.preferred_batch_size if self.dynamic_batching else []
        too_large = [size for size in preferred if size > self.max_batch_size]
        if too_large:
            raise ValueError(
                f"preferred_batch_size {too_large[0]} is larger than max_batch_size "
                f"{self.max_batch_size}"
            )
        return self


class OnnxRuntime(Strict):
    """ONNX Runtime session settings, named as in Triton's onnxruntime backend."""

    intra_op_thread_count: int = Field(default=1, ge=0, description="0: ONNX Runtime decides.")
    inter_op_thread_count: int = Field(default=1, ge=0)
    execution_mode: Literal["sequential", "parallel"] = "sequential"
    graph_optimization: Literal["all", "extended", "basic", "off"] = Field(
        default="all", description="Triton's optimization.graph.level: 0, 1, -1 and 2."
    )
