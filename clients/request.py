"""A question about a picture or several, and its tensors.

What a value may be is the server's to say (docs/architecture.md); here a value is refused only
when its tensor cannot hold it, because numpy would wrap it around without a word.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from tritonclient.grpc import service_pb2
from tritonclient.utils import np_to_triton_dtype, serialize_byte_tensor

MODEL = "arr_coc"

# gRPC refuses messages above 4 MiB unless told otherwise; -1 lifts its limit, Triton's is 2 GiB.
CHANNEL_OPTIONS = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """How to answer; None leaves a choice to the server.

    Attributes:
        max_tokens: most tokens to generate.
        visual_tokens: visual tokens to keep, 1 to the built maximum.
        temperature: 0 is greedy.
        top_p: nucleus sampling, 0 < p <= 1.
        top_k: 0 is off.
        seed: seed of the sampler, 0 to 2**64 - 1.
        stop: stop strings; none of them appears in the text.
    """

    max_tokens: int | None = None
    visual_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """One question about one picture, or about several where the pipeline takes them.

    Attributes:
        image: the encoded picture (JPEG, PNG, WebP ...), or a sequence of them.
        prompt: the question; it may call the pictures "Picture 1", "Picture 2" and so on.
        options: how to answer.
    """

    image: bytes | Sequence[bytes] = field(repr=False)
    prompt: str
    options: GenerationOptions = GenerationOptions()

    @classmethod
    def from_file(
        cls, path: str | Path, prompt: str, options: GenerationOptions | None = None
    ) -> Self:
        """Read the picture from a file; raises OSError when that fails."""
        return cls(Path(path).read_bytes(), prompt, options or GenerationOptions())

    @classmethod
    def from_files(
        cls, paths: Sequence[str | Path], prompt: str, options: GenerationOptions | None = None
    ) -> Self:
        """Read several pictures from files; raises OSError when that fails."""
        images = tuple(Path(path).read_bytes() for path in paths)
        return cls(images, prompt, options or GenerationOptions())

    @property
    def images(self) -> tuple[bytes, ...]:
        """The encoded pictures, one or several."""
        return (self.image,) if isinstance(self.image, bytes) else tuple(self.image)


def infer_request(
    question: Question,
    *,
    model: str = MODEL,
    request_id: str = "",
    timeout: float | None = None,
) -> service_pb2.ModelInferRequest:
    """The message that asks; its tensors have the batch dim of 1, options left out are not sent.

    `timeout` is in seconds; the server has it as TIMEOUT_MS.

    Raises:
        ValueError: a number does not fit its tensor, or a text is not valid Unicode.
    """
    request = service_pb2.ModelInferRequest(model_name=model, id=request_id)
    options = question.options
    _add_strings(request, "IMAGE", list(question.images))
    _add_strings(request, "PROMPT", [_utf8(question.prompt)])
    for name, value, dtype in (
        ("MAX_TOKENS", options.max_tokens, np.int32),
        ("VISUAL_TOKENS", options.visual_tokens, np.int32),
        ("TEMPERATURE", options.temperature, np.float32),
        ("TOP_P", options.top_p, np.float32),
        ("TOP_K", options.top_k, np.int32),
        ("SEED", options.seed, np.uint64),
        ("TIMEOUT_MS", _milliseconds(timeout), np.int32),
    ):
        if value is not None:
            _add_number(request, name, value, np.dtype(dtype))
    if options.stop:
        _add_strings(request, "STOP", [_utf8(text) for text in options.stop])
    return request


def _milliseconds(seconds: float | None) -> int | None:
    """At least 1, for 0 is no limit; None where the tensor can't hold so long a time."""
    if seconds is None or seconds * 1000 > np.iinfo(np.int32).max:
        return None
    return max(math.ceil(seconds * 1000), 1)


def _utf8(text: str) -> bytes:
    """UTF-8; UnicodeEncodeError (a ValueError) on lone surrogates, as from a broken argv."""
    return text.encode()


def _add_strings(request: service_pb2.ModelInferRequest, name: str, values: list[bytes]) -> None:
    # Filled element by element: numpy's fixed-width bytes would drop trailing zeros.
    array = np.empty(len(values), dtype=np.object_)
    array[:] = values
    raw = serialize_byte_tensor(array).item() if values else b""
    _add(request, name, "BYTES", len(values), raw)


def _add_number(
    request: service_pb2.ModelInferRequest, name: str, value: float, dtype: np.dtype[Any]
) -> None:
    datatype = np_to_triton_dtype(dtype)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if not limits.min <= value <= limits.max:
            raise ValueError(
                f"{name} is {value}, which {datatype} cannot hold: "
                f"give {limits.min} to {limits.max}."
            )
    _add(request, name, datatype, 1, np.array(value, dtype=dtype).tobytes())


def _add(
    request: service_pb2.ModelInferRequest, name: str, datatype: str, size: int, raw: bytes
) -> None:
    request.inputs.add(name=name, datatype=datatype, shape=[1, size])
    request.raw_input_contents.append(raw)
