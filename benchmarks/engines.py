"""Engines side by side on encoders: torch eager, SDPA, torch.compile, ONNX Runtime, OpenVINO.

    python -m benchmarks.engines [--runs 21] [--settle 600] [--output FILE]

all-MiniLM-L6-v2 and a BERT-base shape with random weights, at 16 and 128 tokens, batch 1 and 8;
every side is the code that the served stages run, with two threads, fp32, no token masked. All
graphs are compiled first; then the sides run in turn and medians are kept. The baseline is torch
with `attention: eager` and no compiling.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import BertConfig, BertModel

from benchmarks.timing import THREADS, machine, medians, session, settle
from builder.runtime.models.common.settings import from_parameters
from builder.runtime.models.openvino_model.session import OpenVinoSession
from builder.runtime.models.torch_model.runner import TorchRunner
from builder.runtime.models.torch_model.torch_settings import TorchSettings
from builder.spec.releases import onnx_limits
from builder.spec.task import TaskSpec
from builder.tasks.engines import engine_configs, save_checkpoint
from builder.tasks.export import export_graph
from builder.tasks.registry import task_of
from examples.tiny.tasks import bert_tokenizer, minilm

LENGTHS = (16, 128)
BATCHES = (1, 8)
SECONDS = 14.0
"""For one shape of one checkpoint, all sides together; at least `FEWEST` rounds."""
FEWEST = 5
BASELINE = "torch eager"
TORCH: dict[str, dict[str, Any]] = {
    BASELINE: {"attention": "eager"},
    "torch sdpa": {},
    "compile default": {"compile": {"dynamic": False, "batch_sizes": list(BATCHES)}},
    "compile default, dynamic": {"compile": {}},
    "compile default, dynamic, frozen": {"compile": {"freeze": True}},
    "compile reduce-overhead": {
        "compile": {"mode": "reduce-overhead", "dynamic": False, "batch_sizes": list(BATCHES)}
    },
    "compile max-autotune, frozen": {
        "compile": {
            "mode": "max-autotune",
            "dynamic": False,
            "freeze": True,
            "batch_sizes": list(BATCHES),
        }
    },
}
ON_LARGE = frozenset({BASELINE, "torch sdpa", "compile default, dynamic, frozen"})

Arrays = Mapping[str, NDArray[Any]]
Side = Callable[[Arrays], Arrays]


@dataclass(frozen=True)
class Row:
    """One line of the results; ratio above 1 means faster than torch eager.

    `prepare_s` is what loading and compiling took, all shapes together.
    """

    case: str
    metric: str
    engine: str
    baseline: float
    ours: float
    ratio: float
    max_abs_error: float
    prepare_s: float
    rounds: int


def bert_base(folder: Path) -> Path:
    """BERT-base with random weights, and a tokenizer."""
    torch.manual_seed(0)
    BertModel(BertConfig()).save_pretrained(folder)
    bert_tokenizer(512).save_pretrained(folder)
    return folder


def batch_of(size: int, length: int) -> dict[str, NDArray[Any]]:
    """Random ids, none of them padding."""
    ids = np.random.default_rng(size * length).integers(1000, 20000, (size, length))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


class Sides:
    """Every engine over one checkpoint, prepared for all shapes."""

    def __init__(
        self, checkpoint: Path, task: str, folder: Path, without: frozenset[str] = frozenset()
    ) -> None:
        self._task, self._checkpoint = task, checkpoint
        self.runs: dict[str, Side] = {}
        self.prepared: dict[str, float] = {}
        self._batches = [batch_of(size, length) for size in BATCHES for length in LENGTHS]
        spec = self._spec({})
        graph = task_of(spec, folder).graphs()[0]
        save_checkpoint(graph, folder)
        onnx = folder / "model.onnx"
        export_graph(graph, onnx, "transformers", onnx_limits(spec.triton_release))
        for name, settings in TORCH.items():
            if name in without:
                continue
            self._add(name, lambda settings=settings: self._torch(settings, folder))
        self._add("onnxruntime", lambda: _onnxruntime(onnx))
        self._add("openvino", lambda: OpenVinoSession(onnx, threads=THREADS, precision="fp32").run)

    def _spec(self, model: dict[str, Any]) -> TaskSpec:
        return TaskSpec.model_validate(
            {
                "name": "m",
                "task": self._task,
                "checkpoint": {"path": str(self._checkpoint)},
                "sequence_buckets": list(LENGTHS),
                "model": {"max_batch_size": max(BATCHES), **model},
            }
        )

    def _torch(self, settings: dict[str, Any], folder: Path) -> Side:
        spec = self._spec({"engine": "torch", "torch": {"threads": THREADS, **settings}})
        config = next(c for c in engine_configs(task_of(spec, folder), spec) if c.name == "m_model")
        outputs = [tensor.name for tensor in config.outputs]
        runner = TorchRunner(folder, from_parameters(TorchSettings, config.parameters), outputs)
        runner.warm_up(self._batches)
        return runner.run

    def _add(self, name: str, make: Callable[[], Side]) -> None:
        start = time.perf_counter()
        run = make()
        for batch in self._batches:
            run(batch)
        self.runs[name] = run
        self.prepared[name] = time.perf_counter() - start
        print(f"  {name}: ready after {self.prepared[name]:.1f} s", flush=True)


def _onnxruntime(path: Path) -> Side:
    opened = session(path)
    names = [output.name for output in opened.get_outputs()]
    return lambda inputs: dict(zip(names, opened.run(names, dict(inputs)), strict=True))


def measure(name: str, sides: Sides, runs: int) -> list[Row]:
    """All shapes of one checkpoint."""
    rows = []
    for size in BATCHES:
        for length in LENGTHS:
            batch = batch_of(size, length)
            wanted = next(iter(sides.runs[BASELINE](batch).values()))
            start = time.perf_counter()
            calls = {n: partial(run, batch) for n, run in sides.runs.items()}
            for call in calls.values():
                call()
            once = time.perf_counter() - start
            taken = max(FEWEST, min(runs, int(SECONDS / once)))
            times = medians(taken, calls)
            for engine, seconds in times.items():
                got = next(iter(sides.runs[engine](batch).values()))
                rows.append(
                    Row(
                        f"{name}-{length}x{size}",
                        "ms",
                        engine,
                        round(times[BASELINE] * 1e3, 3),
                        round(seconds * 1e3, 3),
                        round(times[BASELINE] / seconds, 3),
                        float(f"{np.abs(got - wanted).max():.1e}"),
                        round(sides.prepared[engine], 1),
                        taken,
                    )
                )
                print(f"  {rows[-1].case:<18} {engine:<34} {rows[-1].ours:>9.2f} ms "
                      f"{rows[-1].ratio:>6.2f}", flush=True)  # fmt: skip
    return rows


def main() -> None:
    """Prepare, wait, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=21)
    parser.add_argument("--settle", type=float, default=0.0, help="seconds to wait for quiet")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/engines.json"))
    parser.add_argument("--without", nargs="*", default=[], metavar="NAME", choices=TORCH)
    options = parser.parse_args()
    without = frozenset(options.without)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(THREADS)
    root = Path(tempfile.mkdtemp(prefix="engines-"))
    try:
        bert_base(root / "checkpoint")
        (root / "minilm").mkdir()
        (root / "bert").mkdir()
        print("minilm", flush=True)
        sides = {"minilm": Sides(minilm(), "sentence-similarity", root / "minilm", without)}
        print("bert-base", flush=True)
        # Compiling BERT-base in every way takes minutes a way: all of them are compared on
        # the small model.
        sides["bert-base"] = Sides(
            root / "checkpoint",
            "feature-extraction",
            root / "bert",
            without=(frozenset(TORCH) - ON_LARGE) | without,
        )
        print("prepared", flush=True)
        settle(options.settle)
        load = os.getloadavg()[0]
        rows = [row for name, side in sides.items() for row in measure(name, side, options.runs)]
    finally:
        shutil.rmtree(root, ignore_errors=True)
    import openvino  # noqa: PLC0415 - for its version

    results = {
        "machine": {**machine(), "openvino": openvino.__version__.split("-")[0], "load": load},
        "threads": THREADS,
        "runs": options.runs,
        "rows": [asdict(row) for row in rows],
    }
    options.output.write_text(json.dumps(results, indent=2) + "\n")
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
