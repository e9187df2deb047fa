"""A question about a picture, and its tensors.

What a value may be is the server's to say (docs/architecture.md); here a value is refused only
when its tensor cannot hold it, because numpy would wrap it around without a word.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferInput

MODEL = "arr_coc"

# Ends a stream at the first error with its gRPC status; without it Triton sends the sentence
# alone (server docs, "GRPC Status Codes", since release 24.08).
STREAM_HEADERS = {"triton_grpc_error": "true"}


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
    """One question about one picture.

    Attributes:
        image: the encoded picture (JPEG, PNG, WebP ...).
        prompt: the question.
        options: how to answer.
    """

    image: bytes = field(repr=False)
    prompt: str
    options: GenerationOptions = GenerationOptions()

    @classmethod
    def from_file(
        cls, path: str | Path, prompt: str, options: GenerationOptions | None = None
    ) -> Self:
        """Read the picture from a file; raises OSError when that fails."""
        return cls(Path(path).read_bytes(), prompt, options or GenerationOptions())


def infer_inputs(question: Question) -> list[InferInput]:
    """The request's tensors, each with the batch dim of 1; options left out are not sent.

    Raises:
        ValueError: a number does not fit its tensor, or a text is not valid Unicode.
    """
    options = question.options
    tensors = [_strings("IMAGE", [question.image]), _strings("PROMPT", [_utf8(question.prompt)])]
    for name, value, dtype in (
        ("MAX_TOKENS", options.max_tokens, np.int32),
        ("VISUAL_TOKENS", options.visual_tokens, np.int32),
        ("TEMPERATURE", options.temperature, np.float32),
        ("TOP_P", options.top_p, np.float32),
        ("TOP_K", options.top_k, np.int32),
        ("SEED", options.seed, np.uint64),
    ):
        if value is not None:
            tensors.append(_number(name, value, np.dtype(dtype)))
    if options.stop:
        tensors.append(_strings("STOP", [_utf8(text) for text in options.stop]))
    return tensors


def _utf8(text: str) -> bytes:
    """UTF-8; UnicodeEncodeError (a ValueError) on lone surrogates, as from a broken argv."""
    return text.encode()


def _strings(name: str, values: list[bytes]) -> InferInput:
    # Filled element by element: numpy's fixed-width bytes would drop trailing zeros.
    array = np.empty((1, len(values)), dtype=np.object_)
    array[0, :] = values
    return _tensor(name, array, "BYTES")


def _number(name: str, value: float, dtype: np.dtype[Any]) -> InferInput:
    datatype = {"int32": "INT32", "uint64": "UINT64", "float32": "FP32"}[dtype.name]
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if not limits.min <= value <= limits.max:
            raise ValueError(
                f"{name} is {value}, which {datatype} cannot hold: "
                f"give {limits.min} to {limits.max}."
            )
    return _tensor(name, np.array([[value]], dtype=dtype), datatype)


def _tensor(name: str, array: NDArray[Any], datatype: str) -> InferInput:
    tensor = InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array)
    return tensor
