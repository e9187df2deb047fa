"""The language stage: engine, cache and weights."""

from typing import Annotated, Literal

from pydantic import Field

from builder.spec.batching import PositiveInt, Strict

Precision = Literal["fp32", "fp16"]

MODEL_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.\-]*$"
"""Names that are safe as a folder and in a Triton URL."""


class LanguageStage(Strict):
    """Python stage, decoupled: continuous batching over a preallocated KV cache."""

    name: str = Field(default="language", pattern=MODEL_NAME)
    precision: Precision | None = Field(
        default=None, description="null: the target's own (fp32 on cpu, fp16 on gpu and tensorrt)."
    )
    slots: Annotated[int, Field(ge=1, le=1024)] = Field(
        default=8, description="Requests that are answered at the same time."
    )
    max_sequence_length: PositiveInt = Field(
        default=1024, description="Tokens of prompt and answer together; sizes the KV cache."
    )
    max_waiting: Annotated[int, Field(ge=0)] = Field(
        default=256, description="Requests that may wait for a slot; more are refused."
    )
    intra_op_thread_count: int = Field(default=1, ge=0, description="0: ONNX Runtime decides.")
    kind: Literal["auto", "cpu", "gpu"] = "auto"
