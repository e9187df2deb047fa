"""Accuracy of a checkpoint or a training state on held-out scenes, in process.

    python -m examples.digits.evaluate FOLDER [--questions N] [--kept K ...]

The answer must match exactly and end there, decoded greedily.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from builder.arr_coc.modules.relevance import Relevance
from builder.arr_coc.modules.scorers import perspectival
from builder.arr_coc.modules.texture import texture_array
from builder.evaluate.accuracy import wilson

from .language import Encoder
from .network import Network
from .questions import KINDS, example
from .scenes import CELL, SIDE
from .selection import relevances, top
from .storage import load_network
from .tower import cell_labels

GRID = (SIDE // CELL, SIDE // CELL)
CELLS = GRID[0] * GRID[1]
BATCH = 50
Batch = dict[str, torch.Tensor]
Select = Callable[[Batch, int], torch.Tensor]


def held_out(encoder: Encoder, count: int, seed: int) -> Iterator[tuple[list[str], Batch]]:
    """Kinds and tensors of the held-out questions, BATCH at a time."""
    for start in range(0, count, BATCH):
        pairs = [example(seed, "test", i) for i in range(start, min(start + BATCH, count))]
        blocks = [encoder.block(question) for _, question in pairs]
        query = [encoder.ids(question.text) for _, question in pairs]
        padded = np.zeros((len(pairs), 1, max(map(len, query))), np.int64)
        for row, ids in zip(padded, query, strict=True):
            row[0, : len(ids)] = ids
        yield (
            [question.kind for _, question in pairs],
            {
                "pixels": torch.from_numpy(np.stack([scene.pixels() for scene, _ in pairs])),
                "labels": torch.from_numpy(np.stack([cell_labels(scene) for scene, _ in pairs])),
                "ids": torch.from_numpy(np.stack([block[0] for block in blocks]))[:, None],
                "targets": torch.from_numpy(np.stack([block[1] for block in blocks]))[:, None],
                "query": torch.from_numpy(padded),
                "length": torch.tensor([[len(ids)] for ids in query]),
            },
        )


def selections(
    network: Network, relevance: Relevance | None, mean: torch.Tensor
) -> dict[str, Select]:
    """Ways to choose K cells [B, 1, K]: the trained relevance and its baselines."""
    generator = torch.Generator().manual_seed(0)
    embeddings = network.model.model.language_model.embed_tokens.weight

    def random(batch: Batch, kept: int) -> torch.Tensor:
        return top(torch.rand(len(batch["pixels"]), 1, CELLS, generator=generator), kept)

    def salient(batch: Batch, kept: int) -> torch.Tensor:
        return top(perspectival(texture_array(batch["pixels"], *GRID))[:, None], kept)

    def relevant(batch: Batch, kept: int) -> torch.Tensor:
        assert relevance is not None
        scores = relevances(
            relevance, batch["pixels"], batch["query"], batch["length"], embeddings, GRID
        )
        return top(scores, kept)

    def no_question(batch: Batch, kept: int) -> torch.Tensor:
        assert relevance is not None
        texture = texture_array(batch["pixels"], *GRID, dtype=relevance.dtype)
        query = mean.to(relevance.dtype).expand(len(texture), -1)
        return top(relevance.scores(texture, query)[0][:, None], kept)

    ways: dict[str, Select] = {"random": random, "salient": salient}
    if relevance is not None:
        ways = {"relevance": relevant, **ways, "mean query": no_question}
    return ways


def mean_query(network: Network, relevance: Relevance, encoder: Encoder) -> torch.Tensor:
    """Mean pooled query [1, D] over training questions."""
    embeddings = network.model.model.language_model.embed_tokens.weight
    pooled = [
        embeddings[torch.tensor(encoder.ids(example(1, "train", index)[1].text))].mean(0)
        for index in range(1000)
    ]
    return torch.stack(pooled).mean(0, keepdim=True).to(relevance.dtype)


@torch.inference_mode()
def evaluate(
    network: Network,
    relevance: Relevance | None,
    encoder: Encoder,
    *,
    count: int,
    kept: list[int],
    seed: int,
) -> list[dict[str, object]]:
    """One row for each selection, K and kind ("all" too): questions, right answers, interval."""
    if relevance is not None:
        relevance = relevance.double().eval()
    mean = mean_query(network, relevance, encoder) if relevance is not None else torch.empty(0)
    ways = selections(network, relevance, mean)
    cases: list[tuple[str, int, Select | None]] = [("all tokens", CELLS, None)]
    cases += [(name, k, way) for k in kept for name, way in ways.items()]
    tallies: dict[tuple[str, int, str], list[int]] = {}
    for kinds, batch in track(
        held_out(encoder, count, seed), total=-(-count // BATCH), description="held out"
    ):
        tokens = network.see(batch["pixels"])
        for name, k, way in cases:
            chosen = torch.arange(CELLS).expand(len(kinds), 1, -1) if way is None else way(batch, k)
            said, wanted = network.pruned_answers(tokens, batch["ids"], batch["targets"], chosen)
            right = (said == wanted).view(len(kinds), 2).all(-1)
            for kind, good in zip(kinds, right.tolist(), strict=True):
                for group in (kind, "all"):
                    tally = tallies.setdefault((name, k, group), [0, 0])
                    tally[0] += 1
                    tally[1] += good
    rows: list[dict[str, object]] = []
    for (name, k, kind), (asked, right_count) in tallies.items():
        low, high = wilson(right_count, asked)
        rows.append(
            {
                "selection": name,
                "kept": k,
                "kind": kind,
                "questions": asked,
                "right": right_count,
                "accuracy": right_count / asked,
                "low": low,
                "high": high,
            }
        )
    return rows


def show(rows: list[dict[str, object]]) -> Table:
    """The rows as a table: a line for each selection and K, a column for each kind."""
    table = Table("selection", "kept", "all", *KINDS)
    cases = dict.fromkeys((row["selection"], row["kept"]) for row in rows)
    for name, k in cases:
        cells = []
        for kind in ("all", *KINDS):
            [row] = [r for r in rows if (r["selection"], r["kept"], r["kind"]) == (name, k, kind)]
            accuracy, low, high = (
                100 * float(str(row[key])) for key in ("accuracy", "low", "high")
            )
            cells.append(f"{accuracy:.1f} ({low:.1f}-{high:.1f})")
        table.add_row(str(name), str(k), *cells)
    return table


def main(
    folder: Annotated[Path, typer.Argument(help="A checkpoint or the state of a training run.")],
    count: Annotated[int, typer.Option("--questions", help="Held-out questions.")] = 2000,
    kept: Annotated[list[int], typer.Option(help="Visual tokens to keep.")] = [16],  # noqa: B006
    seed: Annotated[int, typer.Option(help="Seed of the held-out set.")] = 0,
    threads: Annotated[int, typer.Option(help="Threads of torch.")] = 2,
    output: Annotated[Path | None, typer.Option(help="Write the rows as JSON.")] = None,
) -> None:
    """Measure held-out accuracy by kind of question."""
    torch.set_num_threads(threads)
    network, relevance, tokenizer = load_network(folder)
    rows = evaluate(network, relevance, Encoder(tokenizer), count=count, kept=kept, seed=seed)
    Console(width=160).print(show(rows))
    if output is not None:
        output.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
