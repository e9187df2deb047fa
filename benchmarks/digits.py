"""Accuracy of the trained digits checkpoint as it is served, and of what approximates it.

    python -m benchmarks.digits [--questions 2000] [--output benchmarks/results/digits.json]

Each variant of specs/digits.yaml is built, served by a real tritonserver and asked the same
held-out questions, as `builder eval` does; nothing is timed. The variants: both orders of the
stages, fewer visual tokens, INT8 and INT4 weights of the language stage. The torch reference
answers too where `compared` says so.
"""

import argparse
import json
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress

from benchmarks.timing import Row, Unseen, machine
from builder.build import Build
from builder.evaluate.accuracy import Share, same, shares
from builder.evaluate.dataset import Digits, Item
from builder.evaluate.sides import Served, Side, Torch
from builder.serve import TritonServer
from builder.spec.load import load_spec
from builder.spec.models import Spec

SPEC = Path(__file__).parents[1] / "specs" / "digits.yaml"
CELLS = 64
CONCURRENCY = 8


@dataclass(frozen=True)
class Variant:
    """A way to build the spec.

    Attributes:
        name: In the results.
        built: The spec's `kept_tokens`.
        kept: Visual tokens that the requests ask for.
        prune: As in the spec.
        weights: Of the language stage.
        compared: Whether the torch reference answers too.
    """

    name: str
    built: int
    kept: tuple[int, ...]
    prune: str = "after_vision"
    weights: str | None = None
    compared: bool = False

    def spec(self) -> Spec:
        """The shipped spec, changed."""
        shipped = load_spec(SPEC).model_dump(mode="json", exclude_unset=True)
        shipped |= {"kept_tokens": self.built, "prune": self.prune}
        if self.weights is not None:
            shipped["stages"]["language"]["weights"] = self.weights
        return Spec.model_validate(shipped)


VARIANTS = (
    Variant("after_vision", CELLS, (64, 16, 13), compared=True),
    # The tower sees the built K: one build for each.
    Variant("before_vision", 16, (16,), prune="before_vision", compared=True),
    Variant("before_vision", 13, (13,), prune="before_vision"),
    Variant("after_vision int8", CELLS, (64, 16), weights="int8"),
    Variant("after_vision int4", CELLS, (64, 16), weights="int4"),
)


@dataclass
class Results:
    """Answers so far, by variant and K, and what is said of them."""

    items: Digits
    whole: Share | None = None
    fp32: dict[int, list[str]] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def accuracy(self, variant: Variant, kept: int, answers: list[str]) -> Share:
        """Add a row of accuracy, its baseline the first one: all tokens, fp32."""
        items: list[Item] = list(self.items)
        right = [same(said, item.answer) for said, item in zip(answers, items, strict=True)]
        by_kind = shares([item.kind for item in items], right)
        total = by_kind[-1]
        self.whole = self.whole or total
        self._add(
            variant,
            kept,
            "% of the answers right",
            100 * self.whole.value,
            100 * total.value,
            [share.as_dict() for share in by_kind],
        )
        return total

    def agreement(
        self, variant: Variant, kept: int, answers: list[str], others: list[str], name: str
    ) -> Share:
        """Add a row of how many answers are equal to those of `name`."""
        equal = [same(a, b) for a, b in zip(answers, others, strict=True)]
        total = Share("all", sum(equal), len(equal))
        metric = f"answers equal to those of {name}"
        self._add(variant, kept, metric, total.asked, total.right, [total.as_dict()])
        return total

    def _add(
        self,
        variant: Variant,
        kept: int,
        metric: str,
        baseline: float,
        ours: float,
        by_kind: list[dict[str, Any]],
    ) -> None:
        row = Row(f"{variant.name}, {kept} of {CELLS} tokens", metric, baseline, ours,
                  ours / baseline)  # fmt: skip
        self.rows.append(asdict(row) | {"by_kind": by_kind})


def ask(side: Side, items: Digits, kept: int, title: str) -> list[str]:
    """The answers of a side."""
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=len(items))
        return side.answers(items, kept, lambda: progress.advance(task))


def measure(variant: Variant, results: Results, folder: Path) -> None:
    """Build, serve, ask; add the rows."""
    spec = variant.spec()
    repository = folder / f"{variant.name} {variant.built}".replace(" ", "-")
    Build(spec, SPEC, repository, Unseen()).run()
    with TritonServer(repository) as server:
        served = Served(server.grpc_url, spec.name, CONCURRENCY)
        answers = {
            kept: ask(served, results.items, kept, f"{variant.name}, {kept}")
            for kept in variant.kept
        }
    reference = Torch(spec, SPEC.parent) if variant.compared else None
    for kept, said in answers.items():
        total = results.accuracy(variant, kept, said)
        low, high = total.interval
        line = f"{variant.name:20} K={kept:2} {total.value:6.2%} ({low:.2%} to {high:.2%})"
        if reference is not None:
            expected = ask(reference, results.items, kept, f"torch, {variant.name}, {kept}")
            equal = results.agreement(variant, kept, said, expected, "torch")
            line += f", {equal.right} of {equal.asked} as in torch"
        if variant.weights is not None:
            equal = results.agreement(variant, kept, said, results.fp32[kept], "fp32 weights")
            line += f", {equal.right} of {equal.asked} as with fp32 weights"
        elif variant.prune == "after_vision":
            results.fp32[kept] = said
        print(line, flush=True)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0, help="of the held-out questions")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/digits.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = Results(Digits(options.questions, options.seed))
    with tempfile.TemporaryDirectory() as folder:
        for variant in VARIANTS:
            measure(variant, results, Path(folder))
    written = {
        "machine": machine(),
        "threads": 1,
        "runs": {"questions": options.questions, "seed": options.seed},
        "rows": results.rows,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(written, indent=2) + "\n")
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
