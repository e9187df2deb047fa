"""The language stage's engine against transformers on the same weights.

    python -m benchmarks.language [--quick] [--only GROUP ...] [--genai DIR]

Random weights of Qwen2-0.5B's shape, 64 visual and 32 text tokens, greedy answers of 16 to 256
tokens. Two threads on both sides; the sides alternate and medians are kept. Every fp32 answer is
compared with transformers' tokens (to its last; the first 24 where fifteen decode beside a
newcomer). In the mixed case transformers would take minutes a run, so
- one after another: the request whose length is nearest to the mean is timed;
- padded batch: its prompts and the first eighth of its steps are timed, and the steps counted up to
  the longest answer (later ones see more tokens, so this is in its favour).

`--only` measures some groups and keeps the other rows of the output file; each row holds the commit
that it was measured at. `compiled` takes a minute to compile; `genai` and
`vllm` need what benchmarks/_genai.py and benchmarks/_vllm.py say.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import _genai
from benchmarks._engine import CHUNK, SLOTS, THREADS, Ours
from benchmarks._language_model import (
    IMAGE_TOKEN,
    PROMPT_TOKENS,
    Compiled,
    Prompt,
    Tokens,
    make_model,
    make_prompts,
    padded,
    sequential,
)
from benchmarks._results import keep, machine
from builder.arr_coc.export.decoder import export_text_model
from builder.runtime.models.language.positions import text_sequence
from builder.spec.language import LanguageStage, WeightFormat
from builder.spec.releases import onnx_limits

GROUPS = ("one-stream", "first-token", "mixed", "compiled", "genai", "vllm")


def log_spaced(count: int, least: int, most: int) -> list[int]:
    """Answer lengths, many short and few long, in no order."""
    lengths = [int(x) for x in np.geomspace(least, most, count).round()]
    return [int(x) for x in np.random.default_rng(1).permutation(lengths)]


Answer = Callable[[list[Prompt]], Tokens]


def rates(runs: int, sides: dict[str, tuple[Answer, list[Prompt]]]) -> dict[str, Any]:
    """Median seconds and tokens a second of each side, the sides in turn; and their tokens.

    Where others share the cores, wall clock punishes the side with more barriers between threads;
    so processor seconds a token are kept too.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    busy: dict[str, list[float]] = {name: [] for name in sides}
    answers: dict[str, Tokens] = {}
    for run in range(runs):
        for name, (answer, prompts) in sides.items():
            start, used = time.perf_counter(), time.process_time()
            answers[name] = answer(prompts)
            seconds[name].append(time.perf_counter() - start)
            busy[name].append(time.process_time() - used)
            print(f"  run {run + 1}: {name} {seconds[name][-1]:.1f} s", flush=True)
    tokens = {name: sum(map(len, answers[name])) for name in sides}
    medians = {name: statistics.median(seconds[name]) for name in sides}
    return {
        "seconds": medians,
        "rate": {name: tokens[name] / medians[name] for name in sides},
        "cpu": {name: statistics.median(busy[name]) / tokens[name] for name in sides},
        "answers": answers,
    }


def cpu_ratio(cpu: dict[str, float], baseline: str, ours: str) -> float:
    """How many times the processor seconds a token the baseline takes."""
    return round(cpu[baseline] / cpu[ours], 2)


def row(case: str, metric: str, baseline: float, ours: float, **more: Any) -> dict[str, Any]:
    """One line of the results, of a metric of which more is better."""
    ratio = round(ours / baseline, 3)
    print(f"{case}: {metric}: {baseline:.3f} -> {ours:.3f}: {ratio}x {more or ''}", flush=True)
    return {"case": case, "metric": metric, "baseline": baseline, "ours": ours, "ratio": ratio,
            **more}  # fmt: skip


LOADED_TOKENS = 24
"""Tokens of each answer that are compared in the cases of the first token."""


def one_stream(model: Any, folder: Path, runs: int, tokens: int) -> list[Any]:
    """One request after another, with each artifact."""
    prompts = make_prompts(model, [tokens])
    names = ("fp32", "int8", "int4")
    ours = {name: Ours(folder / name / "decoder.onnx") for name in names}
    ours["drafts"] = Ours(folder / "fp32" / "decoder.onnx", draft=4)
    sides: dict[str, tuple[Answer, list[Prompt]]] = {
        "eager": (lambda p: sequential(model, p), prompts)
    }
    sides |= {name: (engine, prompts) for name, engine in ours.items()}
    result = rates(runs, sides)
    for engine in ours.values():
        engine.close()
    rate, answers = result["rate"], result["answers"]
    wanted = answers["eager"]
    agree = {
        name: float(np.mean(np.array(answers[name][0]) == np.array(wanted[0]))) for name in sides
    }
    stats = ours["drafts"].engine.stats
    acceptance = round(stats.accepted / max(stats.drafted, 1), 3)
    unit = "tokens/s"
    return [
        row("one-stream-fp32", unit, rate["eager"], rate["fp32"], identical=agree["fp32"] == 1,
            cpu_ratio=cpu_ratio(result["cpu"], "eager", "fp32")),
        row("one-stream-int8", unit, rate["eager"], rate["int8"], same_tokens=agree["int8"],
            cpu_ratio=cpu_ratio(result["cpu"], "eager", "int8")),
        row("one-stream-int4", unit, rate["eager"], rate["int4"], same_tokens=agree["int4"],
            cpu_ratio=cpu_ratio(result["cpu"], "eager", "int4")),
        row("one-stream-drafts-vs-none", unit, rate["fp32"], rate["drafts"],
            identical=agree["drafts"] == 1, acceptance=acceptance),
    ]  # fmt: skip


def one_stream_compiled(model: Any, folder: Path, runs: int, tokens: int) -> list[Any]:
    """The same against torch.compile over a static cache; compiling is not counted."""
    prompts = make_prompts(model, [tokens])
    ours, compiled = Ours(folder / "fp32" / "decoder.onnx"), Compiled(model, PROMPT_TOKENS + 256)
    start = time.perf_counter()
    compiled(prompts)
    first = round(time.perf_counter() - start)
    sides: dict[str, tuple[Answer, list[Prompt]]] = {
        "eager": (lambda p: sequential(model, p), prompts),
        "compiled": (compiled, prompts),
        "ours": (ours, prompts),
    }
    result = rates(runs, sides)
    ours.close()
    rate, answers = result["rate"], result["answers"]
    same = answers["ours"] == answers["compiled"]
    return [row("one-stream-fp32-vs-compiled", "tokens/s", rate["compiled"], rate["ours"],
                identical=same, eager=rate["eager"], first_answer_s=first,
                cpu_ratio=cpu_ratio(result["cpu"], "compiled", "ours"))]  # fmt: skip


def against_genai(model: Any, folder: Path, runs: int, packages: Path) -> list[Any]:
    """The text half against onnxruntime-genai, both without a scheduler."""
    found = _genai.compare(packages, model, folder, runs, THREADS)
    return [row(case, "tokens/s", theirs, ours, same_tokens=round(same, 3))
            for case, theirs, ours, same in found]  # fmt: skip


def against_vllm(model: Any, folder: Path, runs: int, most: int, python: Path) -> list[Any]:
    """The text half on vLLM's engine and on ours; prompts of text alone, one after the other."""
    _genai.save_text_half(model, folder / "qwen2")
    rng = np.random.default_rng(3)
    lengths = {"one-stream": [most // 8], "mixed-16": log_spaced(SLOTS, 16, most)}
    ids = {
        case: rng.integers(10, IMAGE_TOKEN, (len(n), PROMPT_TOKENS)) for case, n in lengths.items()
    }
    job = folder / "job.json"
    cases = [{"prompts": ids[case].tolist(), "tokens": lengths[case]} for case in lengths]
    settings = {"checkpoint": str(folder / "qwen2"), "max_length": PROMPT_TOKENS + 256,
                "runs": runs + 1, "threads": THREADS, "eager": True, "cases": cases}  # fmt: skip
    job.write_text(json.dumps(settings))
    script = Path(_genai.__file__).with_name("_vllm.py")
    output = subprocess.run(
        [python, script, job], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    theirs = dict(zip(lengths, json.loads(output.splitlines()[-1]), strict=True))
    ours, rows = Ours(folder / "fp32" / "decoder.onnx"), []
    for case, prompts in ids.items():
        none = np.zeros((0, ours.decoder.hidden_size), dtype=np.float32)
        asked = [(text_sequence(p), none, n) for p, n in zip(prompts, lengths[case], strict=True)]
        seconds = []
        for _ in range(runs + 1):
            start = time.perf_counter()
            sinks = [ours.send(*one) for one in asked]
            answers = [sink.tokens for sink in sinks if sink.done.wait()]
            seconds.append(time.perf_counter() - start)
        # The first run is a warm-up on both sides.
        rates = [sum(lengths[case]) / statistics.median(times[1:])
                 for times in (theirs[case]["seconds"], seconds)]  # fmt: skip
        same = [np.mean(np.array(a) == np.array(b))
                for a, b in zip(answers, theirs[case]["answers"], strict=True)]  # fmt: skip
        rows.append(row(f"{case}-fp32-vs-vllm-cpu", "tokens/s", *rates,
                        same_tokens=round(float(np.mean(same)), 3)))  # fmt: skip
    ours.close()
    return rows


def mixed(model: Any, folder: Path, runs: int, most: int) -> list[Any]:
    """Sixteen requests of mixed length."""
    prompts = make_prompts(model, log_spaced(SLOTS, 16, most), seed=1)
    tokens = sum(prompt.max_tokens for prompt in prompts)
    lengths = [abs(prompt.max_tokens - tokens / SLOTS) for prompt in prompts]
    place = lengths.index(min(lengths))
    typical = prompts[place]
    steps = most // 8
    ours, int4 = (Ours(folder / name / "decoder.onnx") for name in ("fp32", "int4"))
    result = rates(
        runs,
        {
            "sequential": (lambda p: sequential(model, p), [typical]),
            "prompts": (lambda p: padded(model, p, 1), prompts),
            "padded": (lambda p: padded(model, p, steps), prompts),
            "ours": (ours, prompts),
            "int4": (int4, prompts),
        },
    )
    ours.close()
    int4.close()
    seconds, answers = result["seconds"], result["answers"]
    step = (seconds["padded"] - seconds["prompts"]) / (steps - 1)
    whole = seconds["prompts"] + step * (most - 1)
    # Once and untimed: every answer to its last token.
    wanted = sequential(model, prompts)
    same = {"identical": answers["ours"] == wanted, "tokens_compared": tokens}
    unit = "tokens/s, 16 streams"
    alone = typical.max_tokens / seconds["sequential"]
    batch = tokens / seconds["ours"]
    return [
        row(
            "mixed-16-vs-sequential",
            unit,
            alone,
            batch,
            **same,
            cpu_ratio=cpu_ratio(result["cpu"], "sequential", "ours"),
        ),
        row("mixed-16-vs-padded", unit, tokens / whole, batch, step_ms=round(step * 1000)),
        row("mixed-16-int4-vs-sequential", unit, alone, tokens / seconds["int4"]),
    ]


def first_token(
    prompts: list[Prompt], ours: Ours, runs: int
) -> tuple[list[float], list[float], list[tuple[int, list[int]]]]:
    """Seconds to a newcomer's first token, and the longest gap of the others meanwhile.

    Last come the tokens of every request, behind the place of its prompt.
    """
    others = [ours.submit(prompt, 256) for prompt in prompts[: SLOTS - 1]] if runs < 0 else []
    while not all(other.times for other in others):
        time.sleep(0.05)
    seconds, gaps, said = [], [], []
    for _ in range(abs(runs)):
        start = time.perf_counter()
        newcomer = ours.submit(prompts[-1], 1)
        newcomer.done.wait()
        seconds.append(newcomer.times[0] - start)
        said.append((len(prompts) - 1, newcomer.tokens))
        # The gap that the newcomer's last chunk made ends with the others' next token.
        while not all(other.times[-1] > newcomer.times[0] for other in others):
            time.sleep(0.01)
        spans = (np.diff([t for t in other.times if t > start - 1]) for other in others)
        gaps.append(max((float(span.max()) for span in spans if span.size), default=0.0))
        time.sleep(0.3)
    for other in others:
        other.cancelled = True
        other.done.wait()
    said += [(place, other.tokens) for place, other in enumerate(others)]
    return seconds, gaps, said


def under_load(model: Any, folder: Path, runs: int) -> list[Any]:
    """Time to first token of a newcomer: alone, and while fifteen others decode."""
    prompts = make_prompts(model, [256] * SLOTS, seed=2)
    wanted = padded(model, prompts, LOADED_TOKENS)  # of one length: nothing is padded
    rows = []
    for name, chunk in (("ttft-under-load", CHUNK), ("ttft-under-load-whole-prefill", 0)):
        ours = Ours(folder / "fp32" / "decoder.onnx", chunk=chunk)
        ours([prompts[0].__class__(prompts[0].ids, prompts[0].pixels, prompts[0].embeds, 1)])
        idle, loaded, gaps = [], [], []
        said: list[tuple[int, list[int]]] = []
        for _ in range(runs):
            alone, _, first = first_token(prompts, ours, 2)
            idle += alone
            seconds, longest, more = first_token(prompts, ours, -2)
            loaded += seconds
            gaps += longest
            said += first + more
        ours.close()
        a, b = statistics.median(idle), statistics.median(loaded)
        gap = round(statistics.median(gaps), 3)
        print(f"{name}: idle {a:.3f} s, loaded {b:.3f} s, ratio {a / b:.3f}; longest gap {gap} s")
        rows.append({"case": name, "metric": "s", "baseline": a, "ours": b,
                     "ratio": round(a / b, 3), "longest_gap_of_the_others_s": gap,
                     "identical": all(tokens[:LOADED_TOKENS] == wanted[place][: len(tokens)]
                                      for place, tokens in said)})  # fmt: skip
    return rows


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="six layers, short answers, one run")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=GROUPS[:3])
    parser.add_argument("--genai", type=Path, metavar="DIR", help="where onnxruntime-genai is")
    parser.add_argument("--vllm", type=Path, metavar="PYTHON", help="interpreter that has vLLM")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/language.json"))
    arguments = parser.parse_args()
    if "genai" in arguments.only and arguments.genai is None:
        parser.error("the group genai needs --genai DIR")
    if "vllm" in arguments.only and arguments.vllm is None:
        parser.error("the group vllm needs --vllm PYTHON")
    runs = 1 if arguments.quick else arguments.runs
    torch.set_num_threads(THREADS)
    before = machine()
    model = make_model(6 if arguments.quick else 24)
    quantized = {"one-stream", "mixed"} & set(arguments.only)
    formats: tuple[WeightFormat | None, ...] = (None, "int8", "int4") if quantized else (None,)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for weights in formats:
            path = folder / (weights or "fp32") / "decoder.onnx"
            path.parent.mkdir()
            export_text_model(
                model.model.language_model,
                model.lm_head,
                path,
                precision="fp32",
                stage=LanguageStage(weights=weights),
                limits=onnx_limits("24.10"),
            )
            print(f"exported {weights or 'fp32'}", flush=True)
        most = 48 if arguments.quick else 256
        measures: dict[str, Callable[[], list[Any]]] = {
            "one-stream": lambda: one_stream(model, folder, runs, most // 8),
            "first-token": lambda: under_load(model, folder, runs),
            "mixed": lambda: mixed(model, folder, runs, most),
            "compiled": lambda: one_stream_compiled(model, folder, runs, most // 8),
            "genai": lambda: against_genai(model, folder, runs, arguments.genai),
            "vllm": lambda: against_vllm(model, folder, runs, most, arguments.vllm),
        }
        for group in arguments.only:
            run = {"machine": before, "threads": THREADS, "runs": runs}
            keep(arguments.output, run, GROUPS, group, measures[group]())


if __name__ == "__main__":
    main()
