"""Tensors of the models that generate text: what a request may ask for, and what it gets."""

from builder.render.model_config import Tensor

REQUEST_OPTIONS = (
    Tensor("MAX_TOKENS", "INT32", (1,), optional=True),
    Tensor("VISUAL_TOKENS", "INT32", (1,), optional=True),
    Tensor("TEMPERATURE", "FP32", (1,), optional=True),
    Tensor("TOP_P", "FP32", (1,), optional=True),
    Tensor("TOP_K", "INT32", (1,), optional=True),
    Tensor("SEED", "UINT64", (1,), optional=True),
    Tensor("STOP", "STRING", (-1,), optional=True),
    Tensor("REPETITION_PENALTY", "FP32", (1,), optional=True),
    Tensor("LOGPROBS", "BOOL", (1,), optional=True),
    Tensor("TIMEOUT_MS", "INT32", (1,), optional=True),
)
ANSWER = (
    Tensor("TEXT", "STRING", (1,)),
    Tensor("TOKEN_IDS", "INT32", (-1,)),
    Tensor("TOKEN_LOGPROBS", "FP32", (-1,)),
    Tensor("FINISH_REASON", "STRING", (1,)),
    Tensor("PROMPT_TOKENS", "INT32", (1,)),
    Tensor("COMPLETION_TOKENS", "INT32", (1,)),
    Tensor("KEPT_INDICES", "INT32", (-1,)),
    Tensor("RELEVANCE_MAP", "FP32", (-1, -1)),
    Tensor("STATISTICS", "STRING", (1,)),
)
