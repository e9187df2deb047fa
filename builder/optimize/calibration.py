"""Ranges of activations over a user's data, kept part by part so that a killed run goes on.

The histograms and what is read off them are ONNX Runtime's own (`HistogramCollector`).
"""

import contextlib
import hashlib
import importlib
import io
import json
import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

from builder.errors import BuilderError
from builder.optimize.integers import Range
from builder.optimize.products import products
from builder.optimize.rewrite import load, save
from builder.publish.manifest import sha256
from builder.spec.precision import CalibrationMethod

Arrays = Mapping[str, NDArray[Any]]

PART: Final = 16
"""Inputs of one part: what is lost at most when a run is killed."""

_BINS: Final = {"entropy": 512, "percentile": 2048}
_QUANTIZED_BINS: Final = 128
_FIELDS: Final = ("hist", "edges", "low", "high", "threshold")


class Told(Protocol):
    """Told how far a calibration is."""

    def __call__(self, done: int, total: int) -> None:
        """`done` of `total` inputs are through."""


def nobody(done: int, total: int) -> None:
    """Tells nobody."""


class Statistics:
    """What is known of each activation."""

    def __init__(self, method: CalibrationMethod, percentile: float) -> None:
        self.method = method
        self.done = 0
        self._ranges: dict[str, Range] = {}
        calibrate = importlib.import_module("onnxruntime.quantization.calibrate")
        self._histograms: Any = calibrate.HistogramCollector(
            method="percentile" if method == "minmax" else method,
            symmetric=False,
            num_bins=_BINS.get(method, 0),
            num_quantized_bins=_QUANTIZED_BINS,
            percentile=percentile,
            scenario="same",
        )

    def add(self, arrays: dict[str, NDArray[np.float32]]) -> None:
        """Take in the activations of one input."""
        self.done += 1
        if self.method != "minmax":
            self._histograms.collect_value(arrays)
            return
        for name, array in arrays.items():
            low, high = self._ranges.get(name, (np.inf, -np.inf))
            self._ranges[name] = (min(low, float(array.min())), max(high, float(array.max())))

    def ranges(self) -> dict[str, Range]:
        """Activation -> the range that it is rounded within."""
        if self.method == "minmax":
            return dict(self._ranges)
        with contextlib.redirect_stdout(io.StringIO()):
            found = self._histograms.compute_collection_result()
        return {name: (float(values[0]), float(values[1])) for name, values in found.items()}

    def write(self, path: Path, key: str) -> None:
        """Write what is known, whole or not at all."""
        arrays: dict[str, NDArray[Any]] = {
            f"range/{name}": np.array(values) for name, values in self._ranges.items()
        }
        for name, values in self._histograms.histogram_dict.items():
            for field, value in zip(_FIELDS, values, strict=True):
                arrays[f"{field}/{name}"] = np.asarray(value)
        scratch = path.with_name(f"{path.name}.{os.getpid()}.partial")
        with scratch.open("wb") as file:
            np.savez(file, done=np.array(self.done), key=np.array(key), **arrays)
        scratch.replace(path)

    def read(self, path: Path, key: str) -> bool:
        """Take up what an earlier run of the same calibration wrote; whether there was any."""
        try:
            with np.load(path, allow_pickle=False) as file:
                if str(file["key"]) != key:
                    return False
                state = {name: file[name] for name in file.files}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return False
        self.done = int(state["done"])
        names = [name.partition("/")[2] for name in state if name.startswith("hist/")]
        self._histograms.histogram_dict = {
            name: tuple(state[f"{field}/{name}"] for field in _FIELDS) for name in names
        }
        self._ranges = {
            name.partition("/")[2]: (float(value[0]), float(value[1]))
            for name, value in state.items()
            if name.startswith("range/")
        }
        return True


def observed(graph_file: Path, scratch: Path) -> tuple[ort.InferenceSession, list[str]]:
    """A session that gives the activations of every product, and their names."""
    model = load(graph_file)
    values = dict.fromkeys(product.x for product in products(model))
    names = [str(value.name) for value in values]
    for value in values:
        value.type = value.type or ir.TensorType(ir.DataType.FLOAT)
        if not value.is_graph_output():
            model.graph.outputs.append(value)
    path = scratch / "observed.onnx"
    save(model, path)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]), names


def _key(graph_file: Path, method: str, percentile: float, inputs: Sequence[Arrays]) -> str:
    digest = hashlib.sha256()
    for path in (graph_file, graph_file.with_name(f"{graph_file.name}.data")):
        if path.is_file():
            digest.update(sha256(path).encode())
    digest.update(json.dumps([method, percentile, ort.__version__]).encode())
    for feeds in inputs:
        for name in sorted(feeds):
            digest.update(name.encode() + feeds[name].tobytes())
    return digest.hexdigest()


def calibrate(
    graph_file: Path,
    inputs: Iterable[Arrays],
    scratch: Path,
    *,
    method: CalibrationMethod = "minmax",
    percentile: float = 99.99,
    samples: int = 256,
    state: Path | None = None,
    told: Told = nobody,
) -> dict[str, Range]:
    """Find the range of every activation that a product reads.

    Args:
        graph_file: The fused fp32 graph.
        inputs: What it will be served with, without padding, which would widen the ranges.
        scratch: A folder for the graph that is observed.
        method: How a range is read off what was seen.
        percentile: For `percentile`.
        samples: Inputs that are used at most.
        state: File that a killed run goes on from.
        told: Told after every input.

    Raises:
        BuilderError: there are no inputs.
    """
    feeds = list(islice(inputs, samples))
    if not feeds:
        raise BuilderError("calibration: the data holds no samples")
    key = _key(graph_file, method, percentile, feeds)
    statistics = Statistics(method, percentile)
    if state is not None:
        state.parent.mkdir(parents=True, exist_ok=True)
        statistics.read(state, key)
    told(statistics.done, len(feeds))
    if statistics.done < len(feeds):
        session, names = observed(graph_file, scratch)
    while statistics.done < len(feeds):
        activations = session.run(names, dict(feeds[statistics.done]))
        statistics.add(dict(zip(names, activations, strict=True)))
        if state is not None and (statistics.done % PART == 0 or statistics.done == len(feeds)):
            statistics.write(state, key)
        told(statistics.done, len(feeds))
    return statistics.ranges()
