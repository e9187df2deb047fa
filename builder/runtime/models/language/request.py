"""What a request and a model config say, as the engine takes it."""

import secrets
from typing import Any

import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from .batcher import BatcherSettings
from .language_settings import ServedSettings
from .options import GenerationOptions, OptionError, decode_stop
from .session import SessionSettings, instance_device

_INT_LIMIT = 2**31 - 1


def flat_input(request: Any, name: str) -> NDArray[Any] | None:
    """The elements of an input; None where it was left out."""
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy().reshape(-1)


def read_options(request: Any, default_tokens: int, visual_tokens: int = 0) -> GenerationOptions:
    """The options of a request, not checked yet.

    Args:
        request: Triton's request.
        default_tokens: MAX_TOKENS where it was left out.
        visual_tokens: The same for VISUAL_TOKENS.

    Raises:
        OptionError: a tensor has not one element, or STOP is no text.
    """

    def scalar(name: str, default: float) -> float:
        values = flat_input(request, name)
        if values is None:
            return default
        if values.size != 1:
            raise OptionError(f"{name} has {values.size} elements; it takes one")
        return values[0].item()  # type: ignore[no-any-return]

    stop = flat_input(request, "STOP")
    return GenerationOptions(
        max_tokens=int(scalar("MAX_TOKENS", default_tokens)),
        visual_tokens=int(scalar("VISUAL_TOKENS", visual_tokens)) if visual_tokens else 0,
        temperature=float(scalar("TEMPERATURE", 0.0)),
        top_p=float(scalar("TOP_P", 1.0)),
        top_k=int(scalar("TOP_K", 0)),
        seed=int(scalar("SEED", secrets.randbelow(_INT_LIMIT))),
        stop=() if stop is None else decode_stop(list(stop)),
        repetition_penalty=float(scalar("REPETITION_PENALTY", 1.0)),
        logprobs=bool(scalar("LOGPROBS", False)),
        timeout_ms=int(scalar("TIMEOUT_MS", 0)),
    )


def batcher_settings(settings: ServedSettings) -> BatcherSettings:
    """How to schedule, by the parameters of the model config."""
    return BatcherSettings(
        slots=settings.slots,
        max_waiting=settings.max_waiting,
        prefill_chunk=settings.prefill_chunk,
        draft_tokens=settings.draft_tokens,
    )


def session_settings(settings: ServedSettings, args: dict[str, str]) -> SessionSettings:
    """How to run the decoder, by the parameters and the instance that Triton started."""
    return SessionSettings(
        intra_op_threads=settings.intra_op_thread_count,
        device_id=instance_device(args),
        spinning=settings.spinning,
    )
