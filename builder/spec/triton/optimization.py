"""`optimization`: of the graph, of devices, and of copies."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from builder.spec.base import PositiveInt, Strict, UInt32


class Graph(Strict):
    """How much the graph is optimized."""

    level: Literal[-1, 0, 1, 2] = Field(
        description="ONNX Runtime: 0 all, 1 extended, -1 basic, 2 off."
    )


class Shape(Strict):
    """Dims of an input, without the batch dim."""

    dim: list[PositiveInt]


class LowerBound(Strict):
    """The smallest shapes that a CUDA graph is used for."""

    batch_size: Annotated[int, Field(ge=0)] = 0
    input: dict[str, Shape] = Field(default_factory=dict)


class GraphSpec(Strict):
    """Shapes that a CUDA graph is captured for."""

    batch_size: Annotated[int, Field(ge=0)] = 0
    input: dict[str, Shape] = Field(default_factory=dict)
    graph_lower_bound: LowerBound | None = None


class Cuda(Strict):
    """CUDA graphs, waits and copies; TensorRT only."""

    graphs: bool = False
    busy_wait_events: bool = False
    graph_spec: list[GraphSpec] = Field(default_factory=list)
    output_copy_stream: bool = Field(
        default=False, description="Outputs are copied on a stream of their own."
    )

    @model_validator(mode="after")
    def _specs_are_of_graphs(self) -> "Cuda":
        if self.graph_spec and not self.graphs:
            raise ValueError("graph_spec has no meaning without graphs: true")
        return self


class Accelerator(Strict):
    """An execution provider of ONNX Runtime."""

    name: str = Field(min_length=1)
    parameters: dict[str, str] = Field(default_factory=dict)


class ExecutionAccelerators(Strict):
    """Execution providers before the default ones, the first preferred."""

    gpu_execution_accelerator: list[Accelerator] = Field(default_factory=list)
    cpu_execution_accelerator: list[Accelerator] = Field(default_factory=list)


class PinnedMemory(Strict):
    """Whether copies go through pinned memory; Triton does it unless told not to."""

    enable: bool


class Optimization(Strict):
    """Triton's optimization policy."""

    graph: Graph | None = None
    priority: Literal["PRIORITY_DEFAULT", "PRIORITY_MAX", "PRIORITY_MIN"] = "PRIORITY_DEFAULT"
    cuda: Cuda | None = None
    execution_accelerators: ExecutionAccelerators | None = None
    input_pinned_memory: PinnedMemory | None = None
    output_pinned_memory: PinnedMemory | None = None
    gather_kernel_buffer_threshold: UInt32 = Field(
        default=0, description="Buffers of a batch from which a CUDA kernel gathers them; 0: none."
    )
    eager_batching: bool = Field(
        default=False, description="The next batch is prepared while one runs."
    )
