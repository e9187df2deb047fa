"""Counting right answers, with intervals."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Z95 = 1.959963984540054
"""The 97.5% point of the normal distribution: two sides of 95%."""


def wilson(right: int, asked: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a share; (0, 1) where nothing was asked.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal
    of the American Statistical Association 22 (1927).
    """
    if asked == 0:
        return 0.0, 1.0
    share = right / asked
    centre = share + z * z / (2 * asked)
    spread = z * math.sqrt(share * (1 - share) / asked + z * z / (4 * asked * asked))
    scale = 1 + z * z / asked
    low, high = (centre - spread) / scale, (centre + spread) / scale
    # At the ends the exact value is 0 or 1; rounding would miss it by an ulp.
    return (0.0 if right == 0 else max(low, 0.0)), (1.0 if right == asked else min(high, 1.0))


@dataclass(frozen=True)
class Share:
    """Right answers of a kind.

    Attributes:
        kind: The kind, or "all".
        right: Right answers.
        asked: Questions.
    """

    kind: str
    right: int
    asked: int

    @property
    def value(self) -> float:
        """The share, 0 to 1."""
        return self.right / self.asked if self.asked else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Its 95% interval."""
        return wilson(self.right, self.asked)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        low, high = self.interval
        return {
            "kind": self.kind,
            "right": self.right,
            "asked": self.asked,
            "accuracy": self.value,
            "low": low,
            "high": high,
        }


def shares(kinds: Sequence[str], right: Iterable[bool]) -> list[Share]:
    """Accuracy by kind, sorted by name, "all" last."""
    found: dict[str, list[bool]] = {}
    for kind, hit in zip(kinds, right, strict=True):
        found.setdefault(kind, []).append(hit)
    rows = [Share(kind, sum(hits), len(hits)) for kind, hits in sorted(found.items())]
    total = Share("all", sum(row.right for row in rows), sum(row.asked for row in rows))
    return [*rows, total]


def same(a: str, b: str) -> bool:
    """Whether two answers are the same, outer white space apart."""
    return a.strip() == b.strip()
