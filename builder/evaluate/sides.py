"""Who answers: a served pipeline, or the torch reference of a spec."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from builder.errors import RequestError, ServerError, SpecError
from builder.evaluate.dataset import Item
from builder.spec.models import Spec
from clients import AnswerError, GenerationOptions, Question, answer, statistics

_REACH_TIMEOUT = 10.0  # seconds
_ANSWER_TIMEOUT = 120.0  # seconds

Answers = list[str]


class Side(Protocol):
    """Answers questions."""

    name: str

    def answers(self, items: Sequence[Item], kept: int | None, told: Callable[[], None]) -> Answers:
        """The answers, in order.

        Args:
            items: The questions.
            kept: Visual tokens to keep; None: the pipeline's own K.
            told: Called after each answer.

        Raises:
            BuilderError: a question could not be answered.
        """


class Served:
    """A pipeline on a server."""

    name = "served"

    def __init__(self, url: str, model: str, concurrency: int) -> None:
        """Reach the server.

        Args:
            url: gRPC endpoint, HOST:PORT.
            model: Name of the pipeline.
            concurrency: Questions that are asked at the same time.

        Raises:
            ServerError: no server answers there.
        """
        if "://" in url:
            raise ServerError(f"--url is {url}; give HOST:PORT of the gRPC endpoint, no scheme")
        try:
            statistics.read(url, timeout=_REACH_TIMEOUT)
        except AnswerError as error:
            raise ServerError(
                f"no server answers at {url} ({error.message}); start one with `builder serve DIR`"
            ) from error
        self._url, self._model, self._concurrency = url, model, concurrency

    def answers(self, items: Sequence[Item], kept: int | None, told: Callable[[], None]) -> Answers:
        """As `Side.answers`; the first question that fails ends it."""
        stop = threading.Event()

        def one(place: int) -> str:
            if stop.is_set():
                return ""
            item = items[place]
            question = Question(item.image, item.prompt, GenerationOptions(visual_tokens=kept))
            try:
                text = answer(self._url, question, model=self._model, timeout=_ANSWER_TIMEOUT).text
            except AnswerError as error:
                stop.set()
                raise RequestError(
                    f"question {place + 1}: {self._model} at {self._url}: {error.message} "
                    f"({error.status})"
                ) from error
            told()
            return text

        with ThreadPoolExecutor(self._concurrency) as pool:
            return list(pool.map(one, range(len(items))))


class Torch:
    """The reference of a spec, in this process."""

    name = "torch"

    def __init__(self, spec: Spec, base: Path) -> None:
        """Load the checkpoint.

        Args:
            spec: The spec.
            base: Folder that its paths are relative to.
        """
        from builder.arr_coc.reference import Reference  # noqa: PLC0415
        from builder.arr_coc.source import load_checkpoint  # noqa: PLC0415 - brings torch

        self._reference = Reference(spec, load_checkpoint(spec.checkpoint, base, spec.seed))
        self._most = spec.kept_tokens

    def answers(self, items: Sequence[Item], kept: int | None, told: Callable[[], None]) -> Answers:
        """As `Side.answers`."""
        if kept is not None and not 1 <= kept <= self._most:
            raise SpecError(f"--kept {kept}: the spec keeps at most {self._most} (kept_tokens)")
        return list(self._each(items, kept, told))

    def _each(
        self, items: Sequence[Item], kept: int | None, told: Callable[[], None]
    ) -> Iterator[str]:
        for item in items:
            yield self._reference.answer(item.image, item.prompt, visual_tokens=kept).text
            told()
