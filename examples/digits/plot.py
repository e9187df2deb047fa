"""Accuracy against kept tokens as a PNG, from the JSON rows of `evaluate`."""

import json
from pathlib import Path
from typing import Annotated, Any

import matplotlib as mpl
import typer

mpl.use("agg")
from matplotlib import pyplot as plt

# One colour and marker a selection, told apart in print too.
_STYLES = {
    "relevance": ("#0b6e4f", "o"),
    "mean query": ("#c8553d", "s"),
    "salient": ("#5b5f97", "^"),
    "random": ("#8d99ae", "D"),
}


def main(
    rows: Annotated[Path, typer.Argument(help="JSON that `evaluate --output` wrote.")],
    output: Annotated[Path, typer.Argument(help="PNG to write.")],
) -> None:
    """Draw one line a selection, with 95% intervals."""
    table: list[dict[str, Any]] = [r for r in json.loads(rows.read_text()) if r["kind"] == "all"]
    [whole] = [row for row in table if row["selection"] == "all tokens"]
    figure, axes = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    for name, (colour, marker) in _STYLES.items():
        mine = sorted((r for r in table if r["selection"] == name), key=lambda r: int(r["kept"]))
        if not mine:
            continue
        mine.append(whole)
        share = [100 * row["kept"] / whole["kept"] for row in mine]
        accuracy = [100 * row["accuracy"] for row in mine]
        error = [
            [100 * (row["accuracy"] - row["low"]) for row in mine],
            [100 * (row["high"] - row["accuracy"]) for row in mine],
        ]
        axes.errorbar(
            share, accuracy, error, label=name, color=colour, marker=marker, ms=4, lw=1.4, capsize=2
        )
    axes.set_xscale("log")
    axes.set_xticks([5, 10, 25, 50, 100], labels=["5", "10", "25", "50", "100"])
    axes.minorticks_off()
    axes.set_xlabel("visual tokens kept, %")
    axes.set_ylabel("held-out answers right, %")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(output, dpi=150)


if __name__ == "__main__":
    typer.run(main)
