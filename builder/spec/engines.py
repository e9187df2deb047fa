"""Engines that run a task's graph besides ONNX Runtime; names and shapes are the same with each."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from builder.spec.batching import Strict

Engine = Literal["onnxruntime", "openvino", "torch"]
CompileMode = Literal["default", "reduce-overhead", "max-autotune"]


class OpenVino(Strict):
    """OpenVINO in a Python stage; it reads the exported ONNX graph."""

    threads: int = Field(default=0, ge=0, description="Threads of a run; 0: OpenVINO decides.")
    precision: Literal["fp32", "bf16"] = Field(
        default="fp32",
        description="What the arithmetic is done in. bf16 needs a tolerance that allows it; on "
        "processors without bf16 it is no faster.",
    )


class TorchCompile(Strict):
    """torch.compile; every shape that is expected is compiled when the model is loaded."""

    mode: CompileMode = Field(
        default="default",
        description="max-autotune tries several kernels for each product, which takes minutes.",
    )
    dynamic: bool = Field(
        default=True,
        description="One compiled graph for every shape; false: one for each bucket and batch "
        "size, faster to run and slower to load.",
    )
    freeze: bool = Field(
        default=False,
        description="Weights become constants of the compiled graph, packed for the processor.",
    )
    batch_sizes: list[Annotated[int, Field(ge=1)]] | None = Field(
        default=None,
        min_length=1,
        description="Without dynamic shapes: batch sizes that are compiled; a batch is filled up "
        "to the next. null: powers of two up to max_batch_size.",
    )

    @model_validator(mode="after")
    def _sizes_are_for_static_shapes(self) -> "TorchCompile":
        sizes = self.batch_sizes
        if sizes is None:
            return self
        if self.dynamic:
            raise ValueError("batch_sizes are for dynamic: false")
        if sizes != sorted(set(sizes)):
            raise ValueError("batch_sizes must ascend, each size once")
        return self


class Torch(Strict):
    """The checkpoint itself in a Python stage; the server needs torch and transformers."""

    threads: int = Field(default=0, ge=0, description="Threads of a run; 0: torch decides.")
    attention: Literal["sdpa", "eager"] = Field(
        default="sdpa",
        description="sdpa: torch's scaled_dot_product_attention, which BetterTransformer became; "
        "eager: products and softmax one by one.",
    )
    compile: TorchCompile | None = Field(
        default=None, description="null: not compiled. Compiling needs a C++ compiler."
    )
