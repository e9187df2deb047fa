"""MiniLM served to 16 clients: ours against FastAPI, LitServe and pytriton.

    python -m benchmarks.serving [--sentences 1000] [--runs 3] [--output FILE]

Real sentences of mixed length, text in, vector out, each server with two threads for its model.
All servers are up at once; those not measured are stopped, or idle where they
can't be (ours, pytriton). They are driven in turn,
each with every sentence once, and medians of the runs are kept. Every server's vectors are
compared with sentence-transformers'.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoConfig

from benchmarks._sentences import MODEL, real_sentences
from benchmarks.serving import servers
from benchmarks.serving.bound import flops, matrix_flops_a_second
from benchmarks.serving.load import CLIENTS
from benchmarks.timing import machine
from builder.build import Build
from builder.progress import Progress
from builder.spec.load import load_any_spec
from builder.spec.task import TaskSpec

ROOT = Path(__file__).parents[2]
SPEC = ROOT / "specs" / "minilm.yaml"
MOST_DISTANCE = 1e-4
"""Cosine distance that fp32 vectors may have from sentence-transformers'."""
METRIC = f"requests/s, {CLIENTS} clients"
SETTINGS = {
    "ours": "2 instances of the graph with 1 intra-op thread each",
    "fastapi": "uvicorn with 1 worker, torch.set_num_threads(2)",
    "litserve": "1 worker, torch.set_num_threads(2), batches of 16, timeout 5 ms",
    "pytriton": "torch.set_num_threads(2), batches of 16, queue delay 1 ms",
}

# Side -> what its model settings are instead of the spec's.
OURS: dict[str, dict[str, Any]] = {
    "ours": {},
    "ours-best": {"precision": "auto"},
    "ours-not-joined": {"join_lengths": None},
}


class _Steps(Progress):
    def step(self, text: str) -> None:
        """Show it."""
        print(f"  {text}", flush=True)


def build_ours(folder: Path) -> dict[str, str]:
    """The repositories that are missing in a folder; the precision of each."""
    found = {}
    spec = load_any_spec(SPEC)
    assert isinstance(spec, TaskSpec)
    for name, changes in OURS.items():
        data = spec.model_dump(exclude_unset=True)
        if "join_lengths" in changes:
            data["join_lengths"] = changes["join_lengths"]
        data["model"] |= {k: v for k, v in changes.items() if k == "precision"}
        repository = folder / name
        if not repository.exists():
            print(f"build {name}", flush=True)
            built = TaskSpec.model_validate(data)
            Build(built, SPEC, repository, _Steps()).run()
        manifest = json.loads((repository / "manifest.json").read_text())
        found[name] = manifest["precision"]["minilm_model"]["precision"]
    return found


def drive(side: servers.Side, sentences: Path, vectors: Path | None = None) -> dict[str, Any]:
    """Every sentence once through a server."""
    command = [sys.executable, "-m", "benchmarks.serving.load", side.protocol, side.url,
               str(sentences)]  # fmt: skip
    if vectors:
        command += ["--vectors", str(vectors)]
    used = side.cpu_seconds()
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if ended.returncode:
        raise RuntimeError(f"{side.name}: {ended.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(ended.stdout)
    # The load runs on the same cores: what share of them it takes.
    found["load_share"] = found["cpu_seconds"] / (found["seconds"] * (os.cpu_count() or 1))
    found["server_cpu"] = side.cpu_seconds() - used
    return found


def start_all(stack: contextlib.ExitStack, folder: Path, scratch: Path) -> list[servers.Side]:
    """Every server, stopped but for ours and pytriton, which idle at no cost."""
    makers: list[Any] = [servers.ours(name, folder / name) for name in OURS]
    makers += [
        servers.fastapi(f"fastapi-{style}", style, MODEL, scratch)
        for style in ("threads", "queue", "batched")
    ]
    makers += [
        servers.litserve("litserve", "0.005", MODEL, scratch),
        servers.pytriton("pytriton", "1000", MODEL, scratch),
    ]
    sides = []
    for maker in makers:
        side = stack.enter_context(maker)
        print(f"{side.name} is up", flush=True)
        side.pause()
        sides.append(side)
    return sides


def measure(
    sides: list[servers.Side], sentences: Path, scratch: Path, runs: int, wanted: Any
) -> dict[str, dict[str, float]]:
    """Medians of the runs, and the largest cosine distance of each side's vectors."""
    kept: dict[str, list[dict[str, Any]]] = {side.name: [] for side in sides}
    distance = {}
    for run in range(runs):
        for side in sides:
            side.resume()
            vectors = scratch / f"{side.name}.npy" if run == 0 else None
            found = drive(side, sentences, vectors)
            side.pause()
            kept[side.name].append(found)
            if vectors:
                distance[side.name] = float(1 - (np.load(vectors) * wanted).sum(1).min())
            print(
                f"run {run + 1}: {side.name} {found['rate']:.1f}/s, median "
                f"{found['median_ms']:.0f} ms, server CPU {found['server_cpu']:.1f} s, load "
                f"{found['load_share']:.1%} of the machine, distance {distance[side.name]:.1e}",
                flush=True,
            )
    medians = {
        name: {key: statistics.median(run[key] for run in found) for key in found[0]}
        for name, found in kept.items()
    }
    return {name: {**found, "distance": distance[name]} for name, found in medians.items()}


def rows_of(
    found: dict[str, dict[str, float]], precisions: dict[str, str], count: int
) -> list[dict[str, Any]]:
    """Lines of the results, fp32 and our best precision."""
    plain = max(("fastapi-threads", "fastapi-queue"), key=lambda name: found[name]["rate"])
    baselines = {
        "minilm-16-vs-fastapi": plain,
        "minilm-16-vs-fastapi-batched": "fastapi-batched",
        "minilm-16-vs-litserve": "litserve",
        "minilm-16-vs-pytriton": "pytriton",
        "minilm-16-joined-vs-not": "ours-not-joined",
    }
    rows = []
    for case, baseline in baselines.items():
        for side, suffix in (("ours", ""), ("ours-best", "-best-precision")):
            if baseline.startswith("ours") and suffix:
                continue
            a, b = found[baseline], found[side]
            rows.append(
                {
                    "case": f"{case}{suffix}",
                    "metric": METRIC,
                    "baseline": round(a["rate"], 2),
                    "ours": round(b["rate"], 2),
                    "ratio": round(b["rate"] / a["rate"], 3),
                    "baseline_side": baseline,
                    "precision": precisions[side],
                    "max_cosine_distance": b["distance"],
                    "baseline_max_cosine_distance": a["distance"],
                    "median_ms": [round(a["median_ms"], 1), round(b["median_ms"], 1)],
                    "p99_ms": [round(a["p99_ms"], 1), round(b["p99_ms"], 1)],
                    "server_cpu_ms": [round(x["server_cpu"] / count * 1e3, 2) for x in (a, b)],
                    "load_share": [round(x["load_share"], 3) for x in (a, b)],
                }
            )
    return rows


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sentences", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--repositories", type=Path, help="keep what is built here")
    parser.add_argument("--build-only", action="store_true")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/serving.json"))
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder = arguments.repositories or scratch / "repositories"
        folder.mkdir(parents=True, exist_ok=True)
        precisions = build_ours(folder)
        if arguments.build_only:
            return
        torch.set_num_threads(servers.THREADS)
        sentences = real_sentences(arguments.sentences)
        source = SentenceTransformer(str(MODEL), device="cpu")
        wanted = source.encode(sentences, normalize_embeddings=True)
        path = scratch / "sentences.json"
        path.write_text(json.dumps(sentences))
        tokenizer = source.tokenizer
        lengths = [min(len(ids), 256) for ids in tokenizer(sentences, verbose=False)["input_ids"]]
        before = machine()
        reached = matrix_flops_a_second(servers.THREADS)
        bound = reached / (flops(AutoConfig.from_pretrained(MODEL), lengths) / len(lengths))
        print(f"arithmetic bound {bound:.0f}/s at {reached / 1e9:.0f} GFLOP/s", flush=True)
        sides = start_all(stack, folder, scratch)
        found = measure(sides, path, scratch, arguments.runs, wanted)
        for name, side in found.items():
            exact = precisions.get(name, "fp32") == "fp32"
            if exact and side["distance"] > MOST_DISTANCE:
                raise RuntimeError(f"{name}: cosine distance {side['distance']:.1e}")
        rows = rows_of(found, precisions, len(sentences))
        rows.append(
            {
                "case": "minilm-16-vs-arithmetic-bound",
                "metric": METRIC,
                "baseline": round(bound, 1),
                "ours": round(found["ours"]["rate"], 1),
                "ratio": round(found["ours"]["rate"] / bound, 3),
                "gflops": round(reached / 1e9, 1),
                "tokens": sum(lengths),
                "note": "fp32 products of the encoder without padding at torch.mm's speed on both "
                "cores; tokenizer, server, sockets and the load itself are not in it",
            }
        )
        result = {"machine": before, "threads": servers.THREADS, "runs": arguments.runs,
                  "settings": SETTINGS, "rows": rows}  # fmt: skip
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
