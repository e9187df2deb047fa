"""Outputs of one graph against those of another, whatever their type."""

from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from builder.errors import CheckpointError
from builder.onnx_models.examples import Example
from builder.onnx_models.process import said
from builder.spec.models import Tolerance
from builder.verify.measure import ParityRow

EXACT = Tolerance(max_abs_error=1e-3, min_cosine=0.9999)
"""Rows of a batch against the same rows alone: kernels may add in another order."""
_ROUNDING = 1e-6


def difference(
    artifact: str, tensor: str, got: NDArray[Any], wanted: NDArray[Any], tolerance: Tolerance
) -> ParityRow:
    """Floats within a tolerance (relative above 1), anything else equal.

    Where the source gives NaN or an infinity the artifact must give the same.
    """
    batch = int(got.shape[0]) if got.ndim else 1
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        return ParityRow(artifact, tensor, batch, np.inf, -1.0, tolerance)
    if got.dtype.kind != "f":
        same = bool(np.array_equal(got, wanted))
        return ParityRow(artifact, tensor, batch, 0.0, 1.0, tolerance, indices_equal=same)
    a, b = got.astype(np.float64).reshape(-1), wanted.astype(np.float64).reshape(-1)
    finite = np.isfinite(b)
    if (
        not np.array_equal(a[~finite], b[~finite], equal_nan=True)
        or not np.isfinite(a[finite]).all()
    ):
        return ParityRow(artifact, tensor, batch, np.inf, -1.0, tolerance)
    a, b = a[finite], b[finite]
    error = float((np.abs(a - b) / np.maximum(np.abs(b), 1.0)).max(initial=0.0))
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    # Of a tensor that is zero but for rounding the direction says nothing.
    cosine = float(a @ b) / norms if norms > 0 and error > _ROUNDING else 1.0
    return ParityRow(artifact, tensor, batch, error, min(cosine, 1.0), tolerance)


def _same_kind(
    artifact: str, tensor: str, got: NDArray[Any], wanted: NDArray[Any], tolerance: Tolerance
) -> ParityRow:
    same = got.dtype == wanted.dtype and got.ndim == wanted.ndim
    batch = int(got.shape[0]) if got.ndim else 1
    name = f"{tensor} (random: type only)"
    return ParityRow(artifact, name, batch, 0.0, 1.0, tolerance, None if same else False)


def is_random(session: ort.InferenceSession, example: Example, outputs: list[str]) -> bool:
    """Whether two runs on the same inputs differ."""
    inputs = example.make(5)
    runs = [session.run(outputs, inputs) for _ in range(2)]
    return not all(
        difference("", name, one, two, EXACT).passed
        for name, one, two in zip(outputs, *runs, strict=True)
    )


def why_not_batched(session: ort.InferenceSession, example: Example, outputs: list[str]) -> str:
    """Why requests can't be joined along the first dim; "" where they can.

    Three rows are run together and each alone: a first dim that is free need not be a batch dim
    (it may be time, or rows may be normalized together).
    """
    try:
        for seed in (3, 4):
            inputs = example.make(seed, rows=3)
            together = session.run(outputs, inputs)
            rows = [
                session.run(outputs, {n: v[row : row + 1] for n, v in inputs.items()})
                for row in range(3)
            ]
            for place, name in enumerate(outputs):
                alone = [row[place] for row in rows]
                if any(value.shape[:1] != (1,) for value in alone):
                    return f"{name} does not have a row for every row of the inputs"
                joined = np.concatenate(alone)
                if not difference("", name, together[place], joined, EXACT).passed:
                    return f"{name} of a row depends on the other rows"
    except Exception as error:  # onnxruntime has no base of its own
        return f"a batch of 3 does not run ({said(error)[:120]})"
    return ""


def verify(
    artifact: str,
    source: ort.InferenceSession,
    published: ort.InferenceSession,
    example: Example,
    outputs: list[str],
    batches: list[int | None],
    tolerance: Tolerance,
    *,
    random: bool = False,
) -> list[ParityRow]:
    """The published graph against its source on generated inputs; the worst row of each output.

    Args:
        artifact: Name of the model.
        source: The source, graph optimizations off.
        published: What is served, as it is served.
        example: Makes the inputs.
        outputs: What is compared.
        batches: Rows of the runs; None: as in the example.
        tolerance: What is allowed.
        random: Compare types and ranks only.

    Raises:
        CheckpointError: the source answers the same question differently each time.
    """
    worst: dict[tuple[str, int | None], ParityRow] = {}
    for rows in batches:
        for seed in (11, 12):
            inputs = example.make(seed, rows)
            wanted, again = source.run(outputs, inputs), source.run(outputs, inputs)
            got = published.run(outputs, inputs)
            for place, name in enumerate(outputs):
                if random:
                    row = _same_kind(artifact, name, got[place], wanted[place], tolerance)
                    worst[name, rows] = row
                    continue
                if not difference(artifact, name, again[place], wanted[place], tolerance).passed:
                    raise CheckpointError(
                        f"{artifact}: {name} differs from run to run, the graph draws random "
                        "numbers; set verify: {random: true} to compare types only, or give its "
                        "random ops a seed"
                    )
                row = difference(artifact, name, got[place], wanted[place], tolerance)
                seen = worst.get((name, rows))
                if seen is None or (row.passed, -row.max_abs_error) < (
                    seen.passed,
                    -seen.max_abs_error,
                ):
                    worst[name, rows] = row
    return list(worst.values())
