"""`builder eval SPEC|--url`: accuracy on questions with known answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from builder.cli.bars import bars
from builder.cli.quiet import quiet
from builder.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.evaluate.accuracy import Share
    from builder.evaluate.dataset import Item
    from builder.evaluate.sides import Side

_AGREEMENT = 0.999
"""Share of the answers that `--compare` asks for; torch and ONNX Runtime round differently."""


def evaluate(
    spec: Annotated[
        Path | None,
        typer.Argument(metavar="[SPEC]", help="Answer with this spec's torch reference."),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Answer with the server at this gRPC endpoint."),
    ] = None,
    model: Annotated[str, typer.Option(help="Name of the served pipeline.")] = "arr_coc",
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.jsonl",
            help='Lines {"image": PATH, "prompt": TEXT, "answer": TEXT}; default: held-out digits.',
        ),
    ] = None,
    questions: Annotated[int, typer.Option(min=1, help="Number of digit questions.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the digit questions.")] = 0,
    kept: Annotated[
        list[str] | None,
        typer.Option(
            "--kept",
            "--visual-tokens",
            metavar="K",
            help="Visual tokens to keep; several with commas; default: the built K.",
        ),
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Questions at the same time.")] = 8,
    compare: Annotated[
        bool,
        typer.Option("--compare", help="Exit 1 if SPEC and --url agree on less than 99.9%."),
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures here too.")
    ] = None,
) -> None:
    """Count right answers by kind, with 95% intervals; SPEC and --url together are compared."""
    if spec is None and url is None:
        raise SpecError("give a spec, --url HOST:PORT of a served pipeline, or both to compare")
    if compare and (spec is None or url is None):
        raise SpecError("--compare needs both a spec and --url HOST:PORT of where it is served")
    wanted = _counts(kept or [])
    if output is not None and not output.absolute().parent.is_dir():
        raise SpecError(f"--json is {output}, but its folder does not exist")
    items = _items(data, questions, seed)
    sides = _sides(spec, url, model, concurrency)
    results: list[dict[str, Any]] = []
    console = Console()
    for tokens in wanted:
        answers = {side.name: _ask(side, items, tokens) for side in sides}
        results.append(_show(console, items, answers, tokens))
    if output is not None:
        result = {
            "data": str(data) if data else "digits",
            "questions": len(items),
            "seed": None if data else seed,
            "results": results,
        }
        output.write_text(json.dumps(result, indent=2) + "\n")
    if compare and any(row["agree"]["accuracy"] < _AGREEMENT for row in results):
        raise typer.Exit(1)


def _counts(texts: list[str]) -> list[int | None]:
    """The values of --kept; [None], the built K, where there are none."""
    parts = [part for text in texts for part in text.split(",")]
    try:
        values = [int(part) for part in parts]
    except ValueError:
        values = [0]
    if min(values, default=1) < 1:
        raise SpecError(f"--kept {','.join(parts)}: not a list of whole numbers from 1, like 64,16")
    return [*dict.fromkeys(values)] or [None]


def _items(data: Path | None, questions: int, seed: int) -> Sequence[Item]:
    from builder.evaluate.dataset import Digits, read_jsonl

    if data is not None:
        return read_jsonl(data)
    return Digits(questions, seed)


def _sides(spec: Path | None, url: str | None, model: str, concurrency: int) -> list[Side]:
    from builder.evaluate.sides import Served, Torch
    from builder.spec.load import load_any_spec
    from builder.spec.models import Spec

    sides: list[Side] = []
    if url is not None:
        sides.append(Served(url, model, concurrency))
    if spec is not None:
        loaded = load_any_spec(spec)
        if not isinstance(loaded, Spec):
            raise SpecError(f"{spec}: no arr-coc pipeline; only those answer about pictures")
        quiet()
        sides.append(Torch(loaded, spec.resolve().parent))
    return sides


def _ask(side: Side, items: Sequence[Item], kept: int | None) -> list[str]:
    with bars() as progress:
        title = side.name + (f", {kept} kept" if kept else "")
        task = progress.add_task(title, total=len(items))
        return side.answers(items, kept, lambda: progress.advance(task))


def _show(
    console: Console, items: Sequence[Item], answers: dict[str, list[str]], kept: int | None
) -> dict[str, Any]:
    from builder.evaluate.accuracy import Share, same, shares

    asked = list(items)
    kinds = [item.kind for item in asked]
    found: dict[str, list[Share]] = {
        name: shares(kinds, [same(a, item.answer) for a, item in zip(texts, asked, strict=True)])
        for name, texts in answers.items()
    }
    for name, rows in found.items():
        console.print(_table(name + (f", {kept} visual tokens kept" if kept else ""), rows))
    result: dict[str, Any] = {
        "kept": kept,
        **{name: [row.as_dict() for row in rows] for name, rows in found.items()},
    }
    if len(answers) > 1:
        equal = [same(a, b) for a, b in zip(*answers.values(), strict=True)]
        total = Share("agree", sum(equal), len(equal))
        result["agree"] = total.as_dict()
        result["differences"] = [
            {"question": number, "prompt": item.prompt, "answer": item.answer}
            | {name: texts[number] for name, texts in answers.items()}
            for number, (item, equals) in enumerate(zip(asked, equal, strict=True))
            if not equals
        ]
        console.print(
            f"{' and '.join(answers)} agree on {total.right} of {total.asked} answers "
            f"({total.value:.2%})",
            highlight=False,
        )
    return result


def _table(title: str, rows: Sequence[Share]) -> Table:
    table = Table(title=title)
    table.add_column("kind")
    for name in ("questions", "right", "accuracy", "95% interval"):
        table.add_column(name, justify="right")
    for row in rows:
        low, high = row.interval
        if row.kind == "all":
            table.add_section()
        table.add_row(
            row.kind,
            str(row.asked),
            str(row.right),
            f"{row.value:.1%}",
            f"{low:.1%} to {high:.1%}",
        )
    return table
