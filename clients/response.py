"""What comes back: chunks while the answer is generated, then the whole answer."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferResult, service_pb2

from clients.errors import AnswerError, cut_short, from_message


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of the prompt (visual ones included) and of the answer (end token included)."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """What only the last response carries.

    Attributes:
        finish_reason: "stop", "length", "timeout" or "cancelled".
        usage: token counts.
        kept_indices: int32 [K], the token cells kept, most relevant first; cell i is
            row i // cols, column i % cols.
        relevance_map: float32 [rows, cols], relevance of each token cell.
    """

    finish_reason: str
    usage: Usage
    kept_indices: NDArray[np.int32]
    relevance_map: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Newly generated text and the token ids behind it; `summary` is set on the last chunk."""

    text: str
    token_ids: tuple[int, ...]
    summary: Summary | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """The whole answer; the other attributes are those of `Summary`."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    usage: Usage
    kept_indices: NDArray[np.int32]
    relevance_map: NDArray[np.float32]


class AnswerBuilder:
    """Joins the chunks of one stream into its answer."""

    def __init__(self) -> None:
        self._chunks: list[Chunk] = []

    def add(self, chunk: Chunk) -> None:
        """Take the next chunk of the stream."""
        self._chunks.append(chunk)

    def build(self) -> Answer:
        """The answer; AnswerError when the last chunk has not been added."""
        if not self._chunks or self._chunks[-1].summary is None:
            raise cut_short()
        summary = self._chunks[-1].summary
        return Answer(
            text="".join(chunk.text for chunk in self._chunks),
            token_ids=tuple(token for chunk in self._chunks for token in chunk.token_ids),
            finish_reason=summary.finish_reason,
            usage=summary.usage,
            kept_indices=summary.kept_indices,
            relevance_map=summary.relevance_map,
        )


def join(chunks: Iterable[Chunk]) -> Answer:
    """The answer that a whole stream of chunks makes; AnswerError when it was cut short."""
    builder = AnswerBuilder()
    for chunk in chunks:
        builder.add(chunk)
    return builder.build()


def parse_chunk(response: service_pb2.ModelStreamInferResponse) -> Chunk | None:
    """The chunk in a response; None for one without tensors, as a model may close its stream.

    Raises:
        AnswerError: the response is an error, or a tensor of the contract
            (docs/architecture.md) is missing.
    """
    if response.error_message:
        raise from_message(response.error_message)
    if not response.infer_response.outputs:
        return None
    result = InferResult(response.infer_response)
    finish_reason = _text(result, "FINISH_REASON")
    return Chunk(
        text=_text(result, "TEXT"),
        token_ids=tuple(_tensor(result, "TOKEN_IDS").reshape(-1).tolist()),
        summary=_summary(result, finish_reason) if finish_reason else None,
    )


def parse_last(
    response: service_pb2.ModelStreamInferResponse,
) -> tuple[Chunk | AnswerError | None, bool]:
    """What a response to a question holds, and whether it is the last one."""
    try:
        chunk = parse_chunk(response)
    except AnswerError as error:
        return error, True
    if chunk is None:
        final = response.infer_response.parameters["triton_final_response"].bool_param
        return None, bool(final)
    return chunk, chunk.summary is not None


def _summary(result: InferResult, finish_reason: str) -> Summary:
    return Summary(
        finish_reason=finish_reason,
        usage=Usage(
            prompt_tokens=int(_tensor(result, "PROMPT_TOKENS").item()),
            completion_tokens=int(_tensor(result, "COMPLETION_TOKENS").item()),
        ),
        kept_indices=_tensor(result, "KEPT_INDICES").reshape(-1),
        relevance_map=_tensor(result, "RELEVANCE_MAP")[0],
    )


def _text(result: InferResult, name: str) -> str:
    value: bytes = _tensor(result, name).item()
    return value.decode()


def _tensor(result: InferResult, name: str) -> NDArray[Any]:
    array: NDArray[Any] | None = result.as_numpy(name)
    if array is None:
        model = result.get_response().model_name
        raise AnswerError(
            f"Model {model!r} did not send {name}; is it an arr_coc pipeline?", "DATA_LOSS"
        )
    return array
