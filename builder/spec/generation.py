"""How a task model that generates text does it."""

from typing import Any, Literal

from pydantic import Field, model_validator

from builder.spec.batching import PositiveInt
from builder.spec.language import DecoderSettings
from builder.spec.models import Tolerance


class Generation(DecoderSettings):
    """Limits and engine of a model that generates text."""

    engine: Literal["onnxruntime", "vllm"] = Field(
        default="onnxruntime",
        description="onnxruntime: the decoder as ONNX behind this project's own engine; vllm: a "
        "model of Triton's vLLM backend (target gpu), with that backend's inputs and outputs.",
    )
    max_sequence_length: PositiveInt | None = Field(
        default=None,
        description="Tokens of prompt and answer together; sizes the KV cache. null: what the "
        "checkpoint's positions allow, at most 1024.",
    )
    max_tokens: PositiveInt = Field(default=256, description="Longest answer, in tokens.")
    default_max_tokens: PositiveInt = Field(
        default=64, description="Longest answer of a request that does not say."
    )
    tolerance: Tolerance | None = Field(
        default=None,
        description="How far logits of quantized weights or of fp16 may be from the checkpoint's. "
        "null: defaults that catch a broken artifact (int8: 1.0 and cosine 0.99; int4: 5.0 and "
        "0.8; fp16: 0.1 and 0.999). The fp32 decoder has the spec's own tolerance.",
    )
    vllm: dict[str, Any] = Field(
        default_factory=dict,
        description="Engine arguments of vLLM, beside model, dtype, max_model_len, max_num_seqs.",
    )

    @model_validator(mode="after")
    def _limits_fit(self) -> "Generation":
        if self.default_max_tokens > self.max_tokens:
            raise ValueError(
                f"default_max_tokens {self.default_max_tokens} is over max_tokens {self.max_tokens}"
            )
        length, cached = self.max_sequence_length, self.kv_cache_tokens
        if length is not None and cached is not None and cached < length:
            raise ValueError(
                f"kv_cache_tokens {cached} is smaller than max_sequence_length {length}"
            )
        if self.vllm and self.engine != "vllm":
            raise ValueError("vllm: engine arguments need engine: vllm")
        return self
