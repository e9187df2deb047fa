"""A task's artifact against its checkpoint in torch."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort

from builder.spec.models import Tolerance
from builder.tasks.kind import Sample
from builder.verify.measure import ParityRow, compare


def verify_graph(
    artifact: str, path: Path, samples: Sequence[Sample], tolerance: Tolerance
) -> list[ParityRow]:
    """One row for each output and batch size: the worst of its samples.

    Args:
        artifact: Name of the model.
        path: The ONNX file.
        samples: What it is verified with.
        tolerance: What is allowed.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    worst: dict[tuple[str, int], ParityRow] = {}
    for sample in samples:
        names = list(sample.wanted)
        for name, got in zip(names, session.run(names, dict(sample.inputs)), strict=True):
            wanted, valid = sample.wanted[name], sample.valid.get(name)
            if valid is not None:
                got, wanted = got[valid], wanted[valid]  # noqa: PLW2901
            row = compare(artifact, name, np.asarray(got), wanted, tolerance)
            row = replace(row, batch=sample.batch)
            seen = worst.get((name, sample.batch))
            if seen is not None:
                row = replace(
                    row,
                    max_abs_error=max(row.max_abs_error, seen.max_abs_error),
                    min_cosine=min(row.min_cosine, seen.min_cosine),
                )
            worst[name, sample.batch] = row
    return list(worst.values())
