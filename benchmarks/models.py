"""Transformers at their published shapes: torch eager against what the builder makes of them.

    python -m benchmarks.models [--quick] [--output benchmarks/results/models.json]

Random weights of BERT-base, DistilBERT, GPT-2 and T5-small: one forward pass each (encoder
vectors; logits of every token; logits of one pass through encoder and decoder). The eager side is
transformers' model with its default attention; ours is exported, fused and converted as `builder
build` does, the precision chosen by `precision: auto`'s own rule over what was measured. Both get
two threads, runs alternate, medians are kept.
"""

import argparse
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2LMHeadModel,
    T5Config,
    T5ForConditionalGeneration,
)

from benchmarks._quiet import undisturbed
from benchmarks._sentences import bench_sentences, prepare_sentences
from benchmarks.timing import THREADS, machine, medians, settle
from builder.optimize.artifact import Outcome, Surroundings, make_artifact
from builder.optimize.variants import open_session
from builder.render.model_config import Tensor
from builder.spec.models import Tolerance
from builder.spec.precision import Precision
from builder.spec.releases import onnx_limits
from builder.tasks.export import export_graph
from builder.tasks.parity import verify_graph
from builder.tasks.task import Graph, Sample
from builder.verify.measure import ParityRow, compare

LENGTHS = (8, 16, 128, 512)
BATCHES = (1, 8)
CASE = (1, 16)
"""Batch and length of the published ratios."""
SECONDS = 1.6
"""For one batch and length of one model, all sides together."""

EXACT = Tolerance(max_abs_error=1e-3, min_cosine=0.99999)
PUBLISHED = {"bert-base": 1.84, "distilbert": 2.0, "gpt2": 1.58, "t5-small": 1.72}


@dataclass(frozen=True)
class Row:
    """One line of the results; ratio above 1 means that ours is better."""

    case: str
    metric: str
    baseline: float
    ours: float
    ratio: float
    batch: int
    tokens: int
    precision: str
    max_abs_error: float
    min_cosine: float
    bound_ms: float
    """What the products alone would take at the speed of `torch.mm`, fp32, two threads."""
    rounds: int
    others: float
    """Largest share of the machine that other processes took in a round that counts."""
    target: float | None = None


class Encoder(nn.Module):
    """ids and mask -> a vector for each token."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """[B, S, D]."""
        output: torch.Tensor = self.model(
            input_ids=input_ids, attention_mask=attention_mask
        ).last_hidden_state
        return output


class Causal(Encoder):
    """ids and mask -> logits of each token."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """[B, S, V]."""
        output: torch.Tensor = self.model(
            input_ids=input_ids, attention_mask=attention_mask, use_cache=False
        ).logits
        return output


class Seq2Seq(nn.Module):
    """ids, mask and the decoder's ids -> logits of each of those."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        decoder_input_ids: torch.Tensor,
    ) -> torch.Tensor:
        """[B, S, V]."""
        output: torch.Tensor = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids,
            use_cache=False,
        ).logits
        return output


def make_module(case: str) -> nn.Module:
    """The model of a case at its published size, weights as transformers initializes them."""
    torch.manual_seed(0)
    match case:
        case "bert-base":
            return Encoder(BertModel(BertConfig(), add_pooling_layer=False)).eval()
        case "distilbert":
            return Encoder(DistilBertModel(DistilBertConfig())).eval()
        case "gpt2":
            return Causal(GPT2LMHeadModel(GPT2Config())).eval()
        case "t5-small":
            sizes = {"d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8}
            config = T5Config(**sizes, decoder_start_token_id=0)
            return Seq2Seq(T5ForConditionalGeneration(config)).eval()
    raise ValueError(case)


def feeds(module: nn.Module, batch: int, tokens: int) -> dict[str, torch.Tensor]:
    """Random ids; the second half of the rows is padded by a quarter."""
    generator = torch.Generator().manual_seed(batch * 1000 + tokens)
    ids = torch.randint(1000, 20000, (batch, tokens), generator=generator)
    mask = torch.ones_like(ids)
    if batch > 1:
        mask[batch // 2 :, tokens - tokens // 4 :] = 0
    found = {"input_ids": ids, "attention_mask": mask}
    if isinstance(module, Seq2Seq):
        found["decoder_input_ids"] = torch.roll(ids, 1, dims=1)
    return found


def make_sample(module: nn.Module, batch: int, tokens: int) -> Sample:
    """What a file is compared on: the eager model's answer."""
    inputs = feeds(module, batch, tokens)
    with torch.inference_mode():
        wanted = module(**inputs).numpy()
    # The decoder of T5 attends to padding in no row, so all of its places count.
    valid = {} if isinstance(module, Seq2Seq) else {"output": inputs["attention_mask"].bool()}
    return Sample(
        {name: value.numpy() for name, value in inputs.items()},
        {"output": wanted},
        {name: value.numpy() for name, value in valid.items()},
    )


def make_graph(case: str, module: nn.Module) -> Graph:
    """The module as the builder's export takes it."""
    names = list(feeds(module, 2, 4))
    axes = {name: {0: "batch", 1: "sequence"} for name in names}
    example = feeds(module, 3, 7)
    if "decoder_input_ids" in example:
        axes["decoder_input_ids"] = {0: "batch", 1: "decoder_sequence"}
        example["decoder_input_ids"] = example["decoder_input_ids"][:, :5]
    with torch.inference_mode():
        width = int(module(**example).shape[-1])
    return Graph(
        name=case,
        module=module,
        inputs=tuple(Tensor(name, "INT64", (-1,)) for name in names),
        outputs=(Tensor("output", "FP32", (-1, width)),),
        axes=axes,
        example=example,
        samples=lambda: [make_sample(module, *CASE), make_sample(module, 4, 24)],
    )


def build(graph: Graph, folder: Path) -> tuple[dict[str, Path], Outcome]:
    """Export and make every candidate, as `precision: auto` does.

    Returns:
        Precision -> file, and what was measured.
    """
    limits = onnx_limits("24.10")
    exported = folder / "exported" / "model.onnx"
    exported.parent.mkdir(parents=True)
    export_graph(graph, exported, "transformers", limits)
    samples = list(graph.samples())
    around = Surroundings(
        target="cpu",
        limits=limits,
        exact=EXACT,
        threads=THREADS,
        verify=lambda path, tolerance: verify_graph(graph.name, path, samples, tolerance),
        feeds=[samples[0].inputs],
    )
    (folder / "chosen").mkdir()
    settings = Precision(precision="auto")
    outcome = make_artifact(
        exported, folder / "chosen" / "model.onnx", settings, around, folder / "candidates"
    )
    files: dict[str, Path] = {v.precision: v.path for v in outcome.variants if v.failure is None}
    files[outcome.chosen.precision] = outcome.chosen.path
    return files, outcome


def product_flops(module: nn.Module, inputs: dict[str, torch.Tensor]) -> float:
    """Floating-point operations of the matrix products of one pass, as torch itself counts them."""
    from torch.utils.flop_counter import FlopCounterMode  # noqa: PLC0415

    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        module(**inputs)
    return float(counter.get_total_flops())


def mm_rate() -> float:
    """Floating-point operations a second of `torch.mm`, fp32, at the shape of a BERT layer."""
    a, b = torch.randn(1024, 768), torch.randn(768, 3072)
    times = medians(15, {"mm": lambda: torch.mm(a, b)})
    return 2.0 * 1024 * 768 * 3072 / times["mm"]


def errors_of(name: str, session: Any, sample: Sample) -> ParityRow:
    """How far an artifact is from the eager model at one batch and length."""
    got = session.run(["output"], dict(sample.inputs))[0]
    wanted, valid = sample.wanted["output"], sample.valid.get("output")
    if valid is not None:
        got, wanted = got[valid], wanted[valid]
    return compare(name, "output", got, wanted, EXACT)


@dataclass(frozen=True)
class Prepared:
    """A model and its candidates.

    Attributes:
        case: Its name.
        module: Eager.
        sessions: Precision -> session, of the candidates within their tolerance.
        names: Precision -> its name with what it leaves out.
    """

    case: str
    module: nn.Module
    sessions: dict[str, Any]
    names: dict[str, str]


def prepare(case: str, folder: Path) -> Prepared:
    """Make a model's candidates, all of them before anything is timed."""
    module = make_module(case)
    files, outcome = build(make_graph(case, module), folder)
    able = {v.precision: v.name for v in outcome.variants if v.within}
    print(f"{case}: {outcome.reason}", flush=True)
    sessions = {name: open_session(files[name], THREADS) for name in able}
    return Prepared(case, module, sessions, dict(able))


def bench_model(model: Prepared, rate: float, seconds: float, quick: bool) -> list[Row]:
    """All lengths and batches of one model; the published one picks the precision."""
    cells = [(batch, tokens) for batch in BATCHES for tokens in LENGTHS if (batch, tokens) != CASE]
    sessions, rows = model.sessions, []
    for cell in [CASE, *([] if quick else cells)]:
        inputs = feeds(model.module, *cell)
        sample = make_sample(model.module, *cell)

        def eager(inputs: dict[str, torch.Tensor] = inputs) -> object:
            with torch.inference_mode():
                return model.module(**inputs)

        def ours(session: Any, arrays: dict[str, Any]) -> Callable[[], object]:
            return lambda: session.run(None, arrays)

        arrays = dict(sample.inputs)
        sides = {name: ours(session, arrays) for name, session in sessions.items()}
        timing = undisturbed({"eager": eager, **sides}, seconds)
        times = timing.seconds
        if cell == CASE:
            best = min(sessions, key=times.__getitem__)
            sessions = {name: sessions[name] for name in ("fp32", best)}
            model.sessions.clear()
        bound = product_flops(model.module, inputs) / rate * 1e3
        for name, suffix in (("fp32", "-fp32"), (best, "")):
            errors = errors_of(name, sessions[name], sample)
            place = "" if cell == CASE else f"-b{cell[0]}-{cell[1]}"
            rows.append(
                Row(
                    case=f"{model.case}{suffix}{place}",
                    metric="ms",
                    baseline=round(times["eager"] * 1e3, 3),
                    ours=round(times[name] * 1e3, 3),
                    ratio=times["eager"] / times[name],
                    batch=cell[0],
                    tokens=cell[1],
                    precision=model.names[name],
                    max_abs_error=errors.max_abs_error,
                    min_cosine=errors.min_cosine,
                    bound_ms=round(bound, 3),
                    rounds=timing.rounds,
                    others=round(timing.others, 3),
                    target=PUBLISHED[model.case] if not suffix and not place else None,
                )
            )
    return rows


def show(rows: Iterable[Any]) -> None:
    """A line for each row."""
    for line in rows:
        print(
            f"{line.case:24} {line.metric:14} {line.baseline:10.4g} {line.ours:10.4g} "
            f"{line.ratio:7.2f}  {line.precision}",
            flush=True,
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few runs: does it work?")
    parser.add_argument("--only", help="one case")
    parser.add_argument("--settle", type=float, default=0.0, help="seconds to wait for quiet")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/models.json"))
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    torch.set_num_threads(THREADS)
    seconds = 0.2 if options.quick else SECONDS
    rows: list[Any] = []
    facts: dict[str, Any] = {"machine": machine(), "threads": THREADS}

    def write() -> None:
        """Write what is measured so far: a run that is cut short leaves that."""
        result = {**facts, "rows": [asdict(line) for line in rows]}
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(result, indent=2) + "\n")

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        chosen = [case for case in PUBLISHED if options.only in {None, case}]
        models = [prepare(case, folder / case) for case in chosen]
        count = 100 if options.quick else 1000
        sentences = prepare_sentences(folder) if options.only in {None, "sentences"} else None
        settle(options.settle)
        begun, rate = time.perf_counter(), mm_rate()
        facts |= {"load_before": round(os.getloadavg()[0], 2), "mm_gflops": round(rate / 1e9, 1)}
        while models:  # each is let go of, weights and arenas with it
            model = models.pop(0)
            found = bench_model(model, rate, seconds, options.quick)
            show(found)
            rows += found
            write()
        if sentences is not None:
            lines = bench_sentences(sentences, count)
            show(lines)
            rows += lines
            write()
        print(
            f"measured in {time.perf_counter() - begun:.0f} s, wrote {options.output}", flush=True
        )


if __name__ == "__main__":
    main()
