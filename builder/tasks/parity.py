"""A task's artifact against its checkpoint in torch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from builder.spec.models import Tolerance
from builder.tasks.task import Sample
from builder.verify.measure import ParityRow, compare

Run = Callable[[Mapping[str, NDArray[Any]]], Mapping[str, NDArray[Any]]]
"""Inputs of a batch -> every output, by name."""


def verify_graph(
    artifact: str, path: Path, samples: Sequence[Sample], tolerance: Tolerance
) -> list[ParityRow]:
    """An ONNX file on ONNX Runtime; one row for each output and batch size.

    Args:
        artifact: Name of the model.
        path: The ONNX file.
        samples: What it is verified with.
        tolerance: What is allowed.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    return verify_run(artifact, run, samples, tolerance)


def verify_run(
    artifact: str, run: Run, samples: Sequence[Sample], tolerance: Tolerance
) -> list[ParityRow]:
    """Anything that runs a graph; one row for each output and batch size: the worst of its samples.

    Args:
        artifact: Name of the model.
        run: Runs it.
        samples: What it is verified with.
        tolerance: What is allowed.
    """
    worst: dict[tuple[str, int], ParityRow] = {}
    for sample in samples:
        found = run(sample.inputs)
        for name, wanted in sample.wanted.items():
            got, valid = found[name], sample.valid.get(name)
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
