"""How far two tensors are apart."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.errors import BuilderError, ParityError
from builder.spec.models import Tolerance


@dataclass(frozen=True)
class ParityRow:
    """One line of the parity table.

    Attributes:
        artifact: Model name.
        tensor: What was compared.
        batch: Batch size of the run.
        max_abs_error: Largest absolute difference.
        min_cosine: Smallest cosine between two vectors along the last dim.
        tolerance: What is allowed.
        indices_equal: For indices: whether all are the same; None elsewhere.
    """

    artifact: str
    tensor: str
    batch: int
    max_abs_error: float
    min_cosine: float
    tolerance: Tolerance
    indices_equal: bool | None = None

    @property
    def passed(self) -> bool:
        """Whether the row is within its tolerance."""
        return (
            self.max_abs_error <= self.tolerance.max_abs_error
            and self.min_cosine >= self.tolerance.min_cosine
            and self.indices_equal is not False
        )

    def as_dict(self) -> dict[str, Any]:
        """The row for the manifest."""
        return {**asdict(self), "tolerance": self.tolerance.model_dump(), "passed": self.passed}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "ParityRow":
        """The row that `as_dict` wrote down."""
        fields = {name: value for name, value in values.items() if name != "passed"}
        return cls(**{**fields, "tolerance": Tolerance(**fields["tolerance"])})


def compare(
    artifact: str,
    tensor: str,
    got: NDArray[Any],
    wanted: NDArray[Any],
    tolerance: Tolerance,
) -> ParityRow:
    """Compare outputs of the same shape [B, ..., D].

    Args:
        artifact: Model name.
        tensor: Tensor name.
        got: What the artifact gave.
        wanted: What the source gave.
        tolerance: What is allowed.
    """
    a, b = got.astype(np.float64), wanted.astype(np.float64)
    if a.shape != b.shape:
        raise ParityError(f"{artifact}: {tensor} has shape {a.shape}, the source gives {b.shape}")
    if not np.isfinite(a).all():
        return ParityRow(artifact, tensor, a.shape[0], np.inf, -1.0, tolerance)
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    dots = (a * b).sum(axis=-1)
    cosine = np.where(norms > 0, dots / np.where(norms > 0, norms, 1.0), 1.0)
    error = float(np.abs(a - b).max(initial=0.0))
    return ParityRow(artifact, tensor, a.shape[0], error, float(cosine.min(initial=1.0)), tolerance)


@contextmanager
def artifact_errors(artifact: str) -> Iterator[None]:
    """Turn what a runtime raises about an artifact into one sentence.

    Raises:
        ParityError: the artifact does not load or run.
    """
    try:
        yield
    except BuilderError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines()
        first = lines[0] if lines else type(error).__name__
        raise ParityError(
            f"nothing was published; the exported {artifact} does not run: {first}"
        ) from error


def require_parity(rows: list[ParityRow]) -> None:
    """Refuse a build with an artifact over its tolerance.

    Raises:
        ParityError: names each of them, its error and what is allowed.
    """
    failed = [row for row in rows if not row.passed]
    if not failed:
        return
    lines = [
        f"{row.artifact} {row.tensor} at batch {row.batch}: "
        f"error {row.max_abs_error:.2e} (at most {row.tolerance.max_abs_error:.0e}), "
        f"cosine {row.min_cosine:.6f} (at least {row.tolerance.min_cosine})"
        + (", other indices than the source" if row.indices_equal is False else "")
        for row in failed
    ]
    raise ParityError("nothing was published; over tolerance:\n" + "\n".join(lines))
