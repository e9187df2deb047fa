"""`precision: auto`: the fastest candidate within the tolerance, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from builder.optimize.variants import Variant

WORTH: Final = 1.05
"""Times as fast as fp32 that a candidate must be: less is noise, and fp32 is exact."""


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Attributes:
        variant: The candidate.
        reason: One sentence.
    """

    variant: Variant
    reason: str


def _threads(count: int) -> str:
    return f"{count} thread" + ("" if count == 1 else "s") if count else "all threads"


def _objection(variant: Variant, exact: Variant, max_drop: float) -> str | None:
    """Why a candidate can't be taken in place of fp32; None: it can."""
    name = variant.name
    if variant.failure is not None:
        return f"{name} can't be made ({variant.failure})"
    for row in variant.rows:
        if row.min_cosine < row.tolerance.min_cosine:
            return (
                f"{name} is over its tolerance (cosine {row.min_cosine:.4f}, at least "
                f"{row.tolerance.min_cosine})"
            )
        if not row.passed:
            return (
                f"{name} is over its tolerance (error {row.max_abs_error:.2g}, at most "
                f"{row.tolerance.max_abs_error:g})"
            )
    if variant.accuracy is not None and exact.accuracy is not None:
        drop = exact.accuracy - variant.accuracy
        if drop > max_drop:
            return f"{name} loses {drop:.2%} of accuracy, at most {max_drop:.2%}"
    if variant.speed < WORTH:
        return f"{name} is {variant.speed:.2f} times as fast"
    return None


def choose(variants: Sequence[Variant], max_accuracy_drop: float = 0.01) -> Choice:
    """Take the fastest within its tolerance; fp32 where no other is clearly faster.

    Args:
        variants: The candidates, an fp32 one among them.
        max_accuracy_drop: Accuracy that may be lost to fp32, where it was measured.
    """
    exact = next(variant for variant in variants if variant.precision == "fp32")
    objections: list[str] = []
    able: list[Variant] = []
    for variant in variants:
        if variant is exact:
            continue
        objection = _objection(variant, exact, max_accuracy_drop)
        if objection is None:
            able.append(variant)
        else:
            objections.append(objection)
    if not able:
        why = "; ".join(objections) or "it is the only candidate"
        return Choice(exact, f"fp32: {why}.")
    best = max(able, key=lambda variant: variant.speed)
    sentence = (
        f"{best.name}: {best.speed:.2f} times as fast as fp32 on {_threads(best.threads)}, "
        f"cosine {best.min_cosine:.5f}"
    )
    if best.accuracy is not None and exact.accuracy is not None:
        sentence += f", accuracy {best.accuracy:.2%} (fp32 {exact.accuracy:.2%})"
    others = [f"{v.name} is {v.speed:.2f} times as fast" for v in able if v is not best]
    rest = [*others, *objections]
    return Choice(best, sentence + ("; " + "; ".join(rest) if rest else "") + ".")
