"""`builder ask IMAGE QUESTION`: the answer as it is generated, and where the time went."""

import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from builder.errors import BuilderError, RequestError, ServerError
from clients import (
    Answer,
    AnswerError,
    GenerationOptions,
    Question,
    statistics,
    stream,
)
from clients.request import MODEL
from clients.response import AnswerBuilder
from clients.statistics import Snapshot, StageTimes

_STATISTICS_TIMEOUT = 10.0  # seconds


@dataclass(frozen=True, slots=True)
class _Clock:
    """Seconds, as the client saw them."""

    first_token: float
    total: float


def ask(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The picture: JPEG, PNG ...")],
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What to ask about it.")],
    more: Annotated[
        list[Path] | None,
        typer.Option(
            "--image",
            metavar="IMAGE",
            help="A further picture, for pipelines that take several; repeatable.",
        ),
    ] = None,
    url: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="gRPC endpoint of the server.")
    ] = "localhost:8001",
    model: Annotated[str, typer.Option(help="The pipeline to ask.")] = MODEL,
    max_tokens: Annotated[int | None, typer.Option(help="Most tokens to generate.")] = None,
    visual_tokens: Annotated[int | None, typer.Option(help="Visual tokens to keep.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0: greedy.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Nucleus sampling, 0 < p <= 1.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Sample from the k best; 0: off.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the sampler.")] = None,
    stop: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Stop at this text; repeatable.")
    ] = None,
    heatmap: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.png",
            help="Draw what the pipeline looked at to this file (OUT-1.png, OUT-2.png ... of "
            "several pictures).",
        ),
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds that the answer may take.")] = 300.0,
) -> None:
    """Ask a served arr-coc pipeline about pictures; stream the answer and time each stage."""
    options = GenerationOptions(
        max_tokens=max_tokens,
        visual_tokens=visual_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        seed=seed,
        stop=tuple(stop or ()),
    )
    asked = _read([image, *(more or ())], question, options)
    _check(url, timeout, heatmap)
    console = Console()
    before = _reach(url, min(timeout, _STATISTICS_TIMEOUT))
    try:
        answer, clock = _stream(asked, url, model, timeout)
        after = statistics.read_after(url, before, model=model, timeout=_STATISTICS_TIMEOUT)
    except AnswerError as error:
        raise RequestError(f"{model} at {url}: {error.message} ({error.status})") from error
    except ValueError as error:  # a value that its tensor cannot hold
        raise RequestError(str(error)) from error
    except KeyboardInterrupt:
        Console(stderr=True).print("cancelled")
        raise typer.Exit(130) from None  # as a shell says SIGINT
    console.print(_table(statistics.difference(before, after)))
    console.print(_summary(answer, clock), highlight=False, markup=False)
    if heatmap is not None:
        for path in _draw(heatmap, asked.images, answer):
            console.print(f"heat map: {path}", highlight=False, markup=False, soft_wrap=True)


def _read(paths: list[Path], question: str, options: GenerationOptions) -> Question:
    images = []
    for path in paths:
        try:
            images.append(path.read_bytes())
        except OSError as error:
            raise RequestError(f"The picture {path} cannot be read: {error.strerror}.") from error
    return Question(images, question, options)


def _reach(url: str, timeout: float) -> Snapshot:
    """The statistics before the request, from a server that may not be there."""
    try:
        return statistics.read(url, timeout=timeout)
    except AnswerError as error:
        raise ServerError(
            f"No server answers at {url} ({error.message}); "
            "start one with `builder serve DIR` or give --url HOST:PORT of its gRPC endpoint."
        ) from error


def _check(url: str, timeout: float, heatmap: Path | None) -> None:
    """What would otherwise fail late, or with a sentence that does not help."""
    if "://" in url:
        raise ServerError(f"--url is {url}; give HOST:PORT of the gRPC endpoint, without a scheme.")
    if timeout <= 0:
        raise RequestError(f"--timeout is {timeout:g}; give a number of seconds above 0.")
    if heatmap is not None and not heatmap.absolute().parent.is_dir():
        raise RequestError(f"--heatmap is {heatmap}, but its folder does not exist.")


def _stream(question: Question, url: str, model: str, timeout: float) -> tuple[Answer, _Clock]:
    """Print the chunks as they come."""
    clean = _printable if sys.stdout.isatty() else str
    builder = AnswerBuilder()
    first: float | None = None
    start = time.perf_counter()
    try:
        # Closed at once where Ctrl-C comes between two chunks too: that cancels the answer.
        with closing(stream(url, question, model=model, timeout=timeout)) as chunks:
            for chunk in chunks:
                if first is None:
                    first = time.perf_counter() - start
                _print(clean, chunk.text)
                builder.add(chunk)
    finally:
        if first is not None:  # what follows begins on a line of its own
            print(flush=True)
    answer = builder.build()
    total = time.perf_counter() - start
    return answer, _Clock(total if first is None else first, total)


def _print(clean: Callable[[str], str], text: str) -> None:
    print(clean(text), end="", flush=True)


def _printable(text: str) -> str:
    """Without control characters: a model's text must not steer the terminal."""
    return "".join(
        character if character in "\n\t" or character.isprintable() else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )


def _table(stages: list[StageTimes]) -> Table:
    # Triton counts a decoupled stage for its execute call only, hence the note.
    table = Table(
        title="Time per stage, ms, from Triton's statistics",
        caption="tokens generated after execute() count in the pipeline only",
    )
    table.add_column("stage")
    for name in ("requests", "queue", "input", "infer", "output", "total"):
        table.add_column(name, justify="right")
    for stage in stages:
        times = (
            stage.queue_ms,
            stage.input_ms,
            stage.infer_ms,
            stage.output_ms,
            stage.total_ms,
        )
        requests = f"{stage.requests} cached" if stage.cache_hits else str(stage.requests)
        table.add_row(escape(stage.model), requests, *(f"{value:.2f}" for value in times))
    return table


def _summary(answer: Answer, clock: _Clock) -> str:
    usage = answer.usage
    return (
        f"first token {clock.first_token * 1e3:.1f} ms, total {clock.total * 1e3:.1f} ms\n"
        f"{usage.prompt_tokens} prompt tokens ({len(answer.kept_indices)} visual of "
        f"{answer.relevance_map.size}), {usage.completion_tokens} generated, "
        f"finish reason: {answer.finish_reason}"
    )


def _draw(path: Path, images: tuple[bytes, ...], answer: Answer) -> list[Path]:
    """Write a heat map of each picture; the files."""
    from PIL.Image import DecompressionBombError

    from clients import heatmap

    paths = [path]
    if len(images) > 1:
        paths = [path.with_name(f"{path.stem}-{i + 1}{path.suffix}") for i in range(len(images))]
    try:
        drawn = heatmap.draw_each(images, answer.kept_indices, answer.relevance_map)
        for picture, target in zip(drawn, paths, strict=True):
            picture.save(target)
    except (OSError, ValueError, DecompressionBombError) as error:
        raise BuilderError(f"The heat map {path} could not be written: {error}") from error
    return paths
