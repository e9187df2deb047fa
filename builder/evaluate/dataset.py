"""Questions with known answers: the digits of examples/digits, or a file of the user's own."""

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from builder.errors import BuilderError


@dataclass(frozen=True)
class Item:
    """One question.

    Attributes:
        kind: What it asks for; accuracy is given by kind.
        image: The encoded picture.
        prompt: The question.
        answer: The one right answer, compared as text without outer white space.
    """

    kind: str
    image: bytes = field(repr=False)
    prompt: str
    answer: str


class Digits(Sequence[Item]):
    """Held-out digit scenes, drawn from a seed when they are asked for."""

    def __init__(self, count: int, seed: int) -> None:
        """Prepare a set.

        Args:
            count: Number of questions.
            seed: Other seeds give other scenes and questions.

        Raises:
            BuilderError: the examples are not there; they are part of a checkout, not of the wheel.
        """
        try:
            from examples.digits import questions  # noqa: PLC0415 - needs scikit-learn
        except ImportError as error:
            raise BuilderError(
                f"the digits set needs the folder examples/ of a checkout and the dev extra "
                f"({error.name} is missing); give --data FILE.jsonl for questions of your own"
            ) from error
        self._example = questions.example
        self._count, self._seed = count, seed
        self._drawn: dict[int, Item] = {}

    def __len__(self) -> int:
        """Number of questions."""
        return self._count

    def __getitem__(self, place: Any) -> Any:
        """The question at a place."""
        if not isinstance(place, int):
            raise TypeError("one question at a time")
        if not 0 <= place < self._count:
            raise IndexError(place)
        if place not in self._drawn:
            self._drawn[place] = self._draw(place)
        return self._drawn[place]

    def _draw(self, place: int) -> Item:
        scene, question = self._example(self._seed, "test", place)
        buffer = io.BytesIO()
        Image.fromarray(scene.pixels()).save(buffer, "PNG")
        return Item(question.kind, buffer.getvalue(), question.text, question.answer)


def read_jsonl(path: Path) -> list[Item]:
    """Read a file of lines `{"image": PATH, "prompt": TEXT, "answer": TEXT, "kind": TEXT}`.

    Args:
        path: The file; pictures are relative to its folder, `kind` may be left out.

    Raises:
        BuilderError: names the line that can't be used, and why.
    """
    return list(_lines(path))


def _lines(path: Path) -> Iterator[Item]:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BuilderError(f"{path}: can't be read: {error}") from error
    if not any(line.strip() for line in lines):
        raise BuilderError(f"{path}: holds no question")
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _item(line, f"{path}:{number}", path.parent)


def _item(line: str, where: str, base: Path) -> Item:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BuilderError(f"{where}: not JSON: {error}") from error
    if not isinstance(entry, dict):
        raise BuilderError(f"{where}: a line is an object with image, prompt and answer")
    for key in ("image", "prompt", "answer"):
        if not isinstance(entry.get(key), str):
            raise BuilderError(f"{where}: '{key}' is missing or no text")
    try:
        image = (base / entry["image"]).read_bytes()
    except (OSError, ValueError) as error:
        raise BuilderError(f"{where}: the picture can't be read: {error}") from error
    return Item(str(entry.get("kind", "all")), image, entry["prompt"], entry["answer"])
