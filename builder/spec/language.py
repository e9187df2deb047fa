"""The language stage: engine, cache and weights."""

from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from builder.spec.base import PositiveInt, Strict
from builder.spec.triton.model import StageSettings

Precision = Literal["fp32", "fp16"]
WeightFormat = Literal["int8", "int4"]

MODEL_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.\-]*$"
"""Names that are safe as a folder and in a Triton URL."""


class DecoderSettings(Strict):
    """Continuous batching over a preallocated KV cache."""

    precision: Precision | None = Field(
        default=None, description="null: the target's own (fp32 on cpu, fp16 on gpu and tensorrt)."
    )
    weights: WeightFormat | None = Field(
        default=None,
        description="Quantize the weights of the matrix products block by block (MatMulNBits); "
        "null: weights of the stage's precision.",
    )
    weight_block_size: Literal[16, 32, 64, 128, 256] = Field(
        default=32, description="Weights that share a scale, where they are quantized."
    )
    slots: Annotated[int, Field(ge=1, le=1024)] = Field(
        default=8, description="Requests that are answered at the same time."
    )
    max_waiting: Annotated[int, Field(ge=0)] | None = Field(
        default=None,
        description="Requests that may wait for a slot; more are refused as UNAVAILABLE, with the "
        "seconds after which to try again. null: twice the slots, so that nobody waits for much "
        "longer than two answers take.",
    )
    kv_cache_tokens: PositiveInt | None = Field(
        default=None,
        description="Tokens that the KV cache holds in all, in blocks; null: every slot full. "
        "Where it runs out, the newest request is computed again later.",
    )
    prefill_chunk: Annotated[int, Field(ge=0)] = Field(
        default=64,
        description="Tokens of a new prompt that are computed between two tokens of the running "
        "answers; 0: the whole prompt.",
    )
    draft_tokens: Annotated[int, Field(ge=0, le=16)] = Field(
        default=0,
        description="Tokens that are guessed from the prompt (prompt lookup) and verified in one "
        "step while a request runs alone; 0: off.",
    )
    spinning: bool = Field(
        default=False,
        description="Idle threads of ONNX Runtime wait busily: faster steps on cores of their own, "
        "slower ones where other stages share them.",
    )
    intra_op_thread_count: int = Field(default=1, ge=0, description="0: ONNX Runtime decides.")
    kind: Literal["auto", "cpu", "gpu"] = "auto"


SERVING: Final = {
    "slots",
    "max_waiting",
    "kv_cache_tokens",
    "prefill_chunk",
    "draft_tokens",
    "spinning",
    "intra_op_thread_count",
    "kind",
}
"""Keys of `DecoderSettings` that the exported graph does not depend on."""


class LanguageStage(DecoderSettings, StageSettings):
    """Python stage, decoupled."""

    name: str = Field(default="language", pattern=MODEL_NAME)
    max_sequence_length: PositiveInt = Field(
        default=1024, description="Tokens of prompt and answer together; sizes the KV cache."
    )

    @model_validator(mode="after")
    def _one_request_fits(self) -> "LanguageStage":
        tokens = self.kv_cache_tokens
        if tokens is not None and tokens < self.max_sequence_length:
            raise ValueError(
                f"kv_cache_tokens {tokens} is smaller than max_sequence_length "
                f"{self.max_sequence_length}"
            )
        return self
