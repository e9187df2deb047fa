"""Vision, relevance and the whole pipeline against straightforward eager torch.

    python -m benchmarks.pipeline [--quick] [--output benchmarks/results/pipeline.json]

Random weights: speed and parity, no accuracy. Both sides get two threads, runs alternate and
medians are kept; beside them stands CPU time on one thread, which a busy machine changes less.
The eager side is transformers' own image processor and model (SDPA attention, its default) and
the relevance modules as written, in fp32; ours is what the builder exports, the pipeline served
by a real tritonserver and asked through the client.
"""

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from benchmarks.timing import CLOCKS, THREADS, WALL, Row, Unseen, machine, medians, row, session
from benchmarks.trace import (
    QUESTION,
    Request,
    ask,
    draw,
    median_request,
    photo,
    read_trace,
    traced_server,
)
from builder.arr_coc.export.vision import export_vision
from builder.arr_coc.modules.folded import FoldedRelevance
from builder.arr_coc.modules.relevance import Relevance, RelevanceConfig
from builder.arr_coc.reference import Reference
from builder.arr_coc.source import ArrCoc, load_checkpoint
from builder.build import Build
from builder.export.onnx_file import export_module
from builder.runtime.models.preprocess.image import decode, to_pixels
from builder.spec.models import Spec
from builder.spec.releases import onnx_limits
from clients import GenerationOptions, Question, answer
from examples.tiny.make_checkpoint import make_checkpoint

MAX_TOKENS = 96
"""With answers of this length vision and language take times of about 80 to 250 on the eager side,
as in the published profile."""
SHORT = 16
"""A short answer, beside: vision, which arithmetic bounds, is most of it."""
SIDE = 448
"""Pixels on a side: 1,024 patches of 14, 256 token cells of 28."""
KEPT = 51
"""20% of the token cells."""
VISION = {"depth": 12, "embed_dim": 384, "num_heads": 6, "mlp_ratio": 4}
TEXT = {
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 1_000_000.0,
        "mrope_section": [8, 12, 12],
    },
}
RELEVANCE_GRID, RELEVANCE_CELL, RELEVANCE_KEPT, RELEVANCE_WIDTH = (32, 32), 28, 200, 3584
QUERY_LENGTH, QUERY_TOKENS, VOCABULARY = 128, 20, 16384


def cosine(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    """The smallest cosine of two rows."""
    a, b = a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1])
    return float(((a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)).min())


def bench_relevance(folder: Path, runs: int) -> list[Row]:
    """The relevance graph at the reference shape: 32 x 32 cells, K = 200, width 3584."""
    config = RelevanceConfig(query_dim=RELEVANCE_WIDTH)
    eager = Relevance.untrained(config, seed=0)
    generator = torch.Generator().manual_seed(0)
    table = torch.randn((VOCABULARY, RELEVANCE_WIDTH), generator=generator)
    exact = Relevance.untrained(config, seed=0).double()
    folded = FoldedRelevance(exact, table, RELEVANCE_GRID, RELEVANCE_CELL, RELEVANCE_KEPT)
    side = RELEVANCE_GRID[0] * RELEVANCE_CELL
    picture = to_pixels(decode(photo(), 10**8), side, side)
    ids = torch.randint(VOCABULARY, (8, QUERY_LENGTH), generator=generator, dtype=torch.int32)
    inputs = (
        torch.from_numpy(np.stack([np.roll(picture, 40 * shift, axis=0) for shift in range(8)])),
        ids,
        torch.full((8, 1), QUERY_TOKENS, dtype=torch.int32),
    )
    names = ["pixels", "query_ids", "query_length"]
    path = folder / "relevance.onnx"
    batch = torch.export.Dim("batch", min=1, max=64)
    export_module(
        folded.eval(),
        tuple(tensor[:3] for tensor in inputs),
        path,
        input_names=names,
        output_names=["kept_indices", "relevance_map"],
        dynamic_shapes=tuple({0: batch} for _ in names),
        limits=onnx_limits("24.10"),
    )
    rows = []
    for size, clock in itertools.product((1, 8), CLOCKS):
        ours = session(path, clock.threads)
        tensors = tuple(tensor[:size].contiguous() for tensor in inputs)
        feeds = {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)}

        def run_eager(tensors: tuple[torch.Tensor, ...] = tensors) -> object:
            with torch.inference_mode():
                return eager(*tensors, table, RELEVANCE_GRID, RELEVANCE_KEPT)

        def run_ours(ours: Any = ours, feeds: dict[str, Any] = feeds) -> object:
            return ours.run(None, feeds)

        times = medians(runs, {"eager": run_eager, "ours": run_ours}, clock)
        rows.append(row(f"relevance-b{size}", times["eager"], times["ours"], clock))
        if clock is not WALL:
            continue
        with torch.inference_mode():
            wanted = exact(*tensors, table, RELEVANCE_GRID, RELEVANCE_KEPT)[0].numpy()
        same = float((ours.run(None, feeds)[0] == wanted).mean())
        rows.append(Row(f"relevance-b{size}", "share of equal indices", 1.0, same, same))
    return rows


def vision_flops() -> float:
    """Floating-point operations of the exact tower's matrix products, for one picture."""
    patches, width = (SIDE // 14) ** 2, VISION["embed_dim"]
    layer = patches * width * width * (3 + 1 + 2 * VISION["mlp_ratio"]) + 2 * patches**2 * width
    merger = patches // 4 * (4 * width) * (4 * width + TEXT["hidden_size"])  # type: ignore[operator]
    embedding = patches * 14 * 14 * 3 * width
    return 2.0 * (VISION["depth"] * layer + merger + embedding)


def bench_vision(reference: Reference, folder: Path, runs: int) -> list[Row]:
    """The tower over 1,024 patches, from a decoded picture: whole, and 20% of its cells."""
    exact, pruned = folder / "vision.onnx", folder / "vision_pruned.onnx"
    export_vision(reference.source, reference.spec, exact)
    spec = reference.spec.model_copy(update={"prune": "before_vision"})
    export_vision(reference.source, spec, pruned)
    picture = Image.fromarray(reference.pixels(photo())).resize((512, 512))
    area = {"shortest_edge": SIDE * SIDE, "longest_edge": SIDE * SIDE}
    facts = reference.source.facts
    processor = Qwen2VLImageProcessorPil(
        size=area, image_mean=facts.image_mean, image_std=facts.image_std
    )
    pixels = to_pixels(picture, SIDE, SIDE)
    prompt = reference.prompts.encode(QUESTION.encode())
    kept, _ = reference.select(torch.from_numpy(pixels.copy()), prompt)
    product = torch.randn(1024, 384), torch.randn(384, 1536)
    products = 50

    def eager() -> torch.Tensor:
        with torch.inference_mode():
            inputs = processor(images=[picture], return_tensors="pt")
            output = reference.source.visual(
                inputs["pixel_values"], grid_thw=inputs["image_grid_thw"]
            )
            embeds: torch.Tensor = output.pooler_output
            return embeds

    def ours(path: Path, threads: int) -> Callable[[], Any]:
        run = session(path, threads).run
        chosen = {"kept_indices": kept.numpy()[None]} if path is pruned else {}
        return lambda: run(None, {"pixels": to_pixels(picture, SIDE, SIDE)[None], **chosen})[0]

    def arithmetic() -> None:
        for _ in range(products):
            torch.mm(*product)

    rows = []
    for clock in CLOCKS:
        whole, part = (ours(path, clock.threads) for path in (exact, pruned))
        sides = {"eager": eager, "whole": whole, "part": part, "bound": arithmetic}
        times = medians(runs, sides, clock)
        rate = products * 2.0 * 1024 * 384 * 1536 / times["bound"]
        rows += [
            row("vision-exact", times["eager"], times["whole"], clock),
            row("vision-exact-bound", vision_flops() / rate, times["whole"], clock),
            row("vision-pruned-20", times["eager"], times["part"], clock),
        ]
    seen, _ = reference.see(torch.from_numpy(pixels.copy()), kept)
    for case, got, wanted in (
        ("vision-exact", whole(), eager().numpy()),
        ("vision-pruned-20", part(), seen.numpy()),
    ):
        same = cosine(got, wanted)
        rows.append(Row(case, "smallest cosine", 1.0, same, same))
    return rows


def make_source(folder: Path) -> tuple[Spec, ArrCoc]:
    """A random Qwen2-VL whose vision and language take about the same time."""
    checkpoint = folder / "checkpoint"
    make_checkpoint(checkpoint, text_sizes=TEXT, vision_sizes=VISION)
    spec = Spec.model_validate(
        {
            "name": "arr_coc",
            "checkpoint": {"path": str(checkpoint)},
            "grid": {"rows": SIDE // 28, "cols": SIDE // 28},
            "kept_tokens": KEPT,
            "stages": {
                "vision": {"onnxruntime": {"intra_op_thread_count": THREADS}},
                "language": {"intra_op_thread_count": THREADS},
            },
            "verify": {"batch_sizes": [1]},
        }
    )
    return spec, load_checkpoint(spec.checkpoint, folder)


class EagerPipeline:
    """The reference with relevance in fp32, timed by stage."""

    def __init__(self, spec: Spec, source: ArrCoc) -> None:
        relevance = Relevance(source.relevance.config)
        relevance.load_state_dict(source.relevance.state_dict())
        self._reference = Reference(spec, replace(source, relevance=relevance.float().eval()))
        self.stages: dict[str, list[float]] = {}

    def answer(self, tokens: int) -> None:
        """Answer about the photo."""
        reference = self._reference
        marks = [time.perf_counter()]
        pixels = torch.from_numpy(reference.pixels(photo()).copy())
        prompt = reference.prompts.encode(QUESTION.encode())
        marks.append(time.perf_counter())
        embeds = reference.embed_image(pixels)
        marks.append(time.perf_counter())
        kept, _ = reference.select(pixels, prompt)
        marks.append(time.perf_counter())
        reference.logits(prompt, kept, embeds, tokens)
        marks.append(time.perf_counter())
        names = ("preprocess", "vision", "relevance", "language")
        for name, start, end in zip(names, marks[:-1], marks[1:], strict=True):
            self.stages.setdefault(name, []).append(end - start)


def check_answer(url: str, reference: Reference) -> None:
    """The served pipeline says what the reference says, for as long as it is timed."""
    wanted = reference.answer(photo(), QUESTION, MAX_TOKENS)
    got = answer(url, Question(photo(), QUESTION, GenerationOptions(max_tokens=MAX_TOKENS)))
    if list(got.token_ids) != wanted.token_ids or len(wanted.token_ids) != MAX_TOKENS:
        raise SystemExit(f"the pipeline says {got.token_ids}, the reference {wanted.token_ids}")


def _stage(requests: list[Request], name: str, *, compute: bool = False) -> float:
    spans = [request.spans[name] for request in requests]
    return statistics.median(
        span.compute[1] - span.compute[0] if compute else span.seconds for span in spans
    )


def bench_pipeline(
    spec: Spec, source: ArrCoc, folder: Path, runs: int, pictures: Path | None
) -> list[Row]:
    """One request at a time, from the encoded photo to the last token of the answer."""
    eager = EagerPipeline(spec, source)
    pruned = spec.model_copy(update={"prune": "before_vision"})
    waited: dict[str, list[float]] = {"exact": [], "best": []}
    files: dict[str, Path] = {}
    for name, variant in (("exact", spec), ("best", pruned)):
        Build(variant, folder / "spec.yaml", folder / name, Unseen()).run()
    exact_server = traced_server(folder / "exact", folder)
    best_server = traced_server(folder / "best", folder)
    with exact_server as (one, files["exact"]), best_server as (two, files["best"]):
        servers = {"exact": one, "best": two}
        for name, variant in (("exact", spec), ("best", pruned)):
            check_answer(servers[name].grpc_url, Reference(variant, source))
        rows = []
        for tokens, suffix in ((SHORT, f"-{SHORT}-tokens"), (MAX_TOKENS, "")):
            eager.stages.clear()
            short = {name: len(times) for name, times in waited.items()}
            sides: dict[str, Callable[[], object]] = {"eager": lambda t=tokens: eager.answer(t)}
            for name, server in servers.items():
                sides[name] = lambda n=name, s=server, t=tokens: waited[n].append(ask(s, t))
            times = medians(runs, sides)
            rows += [row(f"pipeline-{n}{suffix}", times["eager"], times[n]) for n in servers]
    stages = {name: statistics.median(values[1:]) for name, values in eager.stages.items()}
    share = stages["relevance"] / sum(stages.values())
    for name in servers:
        # The answer that was checked was traced too, and came first; the short ones came next.
        requests = read_trace(files[name], [0.0, *waited[name]])[2 + short[name] :]
        if pictures is not None:
            (pictures / f"trace_{name}.svg").write_text(draw(median_request(requests)))
        rows += [
            row(f"stage-{stage}-{name}", stages[stage], _stage(requests, stage)) for stage in stages
        ]
        # All that it computes counts, whatever runs beside it: the most that it can add.
        ours = _stage(requests, "relevance", compute=True) / _stage(requests, spec.name)
        case = "relevance-critical-path" + ("" if name == "exact" else "-best")
        rows.append(Row(case, "share of the ensemble's time", share, ours, share / ours))
    return rows


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few runs: does it work?")
    parser.add_argument(
        "--relevance-only", action="store_true", help="measure its rows anew, keep the others"
    )
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/pipeline.json"))
    parser.add_argument("--pictures", type=Path, help="folder for a picture of each trace")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    runs = {"relevance": 3, "vision": 1, "pipeline": 1} if options.quick else {
        "relevance": 41, "vision": 9, "pipeline": 9}  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = bench_relevance(folder, runs["relevance"])
        if options.relevance_only:
            old = json.loads(options.output.read_text())["rows"]
            rows += [Row(**line) for line in old if not line["case"].startswith("relevance-b")]
        else:
            spec, source = make_source(folder)
            rows += bench_vision(Reference(spec, source), folder, runs["vision"])
            rows += bench_pipeline(spec, source, folder, runs["pipeline"], options.pictures)
    for line in rows:
        print(f"{line.case:28} {line.metric:30} {line.baseline:10.4g} {line.ours:10.4g} "
              f"{line.ratio:8.3f}")  # fmt: skip
    result = {
        "machine": machine(),
        "threads": THREADS,
        "runs": runs,
        "rows": [asdict(line) for line in rows],
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
