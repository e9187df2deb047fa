"""Which architecture passes with which exporter: tiny random checkpoints, exported and verified.

    python -m benchmarks.exporters [NAME ...]    all, or some; results of the others are kept

writes benchmarks/results/exporters.json and the table in docs/tasks.md. "Passes" means that the
artifact runs in ONNX Runtime and is as near to torch as a spec asks by default, on batches of
unequal lengths (texts) or on photos of every shape (pictures).
"""

import argparse
import json
import platform
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, get_args

import onnx
import torch
import transformers
from transformers.utils import logging

from benchmarks._commit import commit
from builder.errors import BuilderError
from builder.spec.releases import onnx_limits
from builder.spec.task import Exporter, TaskSpec
from builder.tasks.export import export_graph
from builder.tasks.parity import verify_graph
from builder.tasks.registry import task_of
from examples.tiny.tasks import bert_tokenizer, save_clip

ROOT: Final = Path(__file__).parents[1]
RESULTS: Final = ROOT / "benchmarks" / "results" / "exporters.json"
DOCUMENT: Final = ROOT / "docs" / "tasks.md"
MARKS: Final = ("<!-- exporters -->\n", "<!-- /exporters -->\n")
EXPORTERS: Final = get_args(Exporter)
RELEASE: Final = "24.10"

_WIDE: Final = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 37,
    "max_position_embeddings": 140,
    "initializer_range": 0.3,
}
_ONE_TYPE: Final = {**_WIDE, "type_vocab_size": 1}
_PICTURE: Final = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 37,
    "initializer_range": 0.3,
    "image_size": 32,
    "patch_size": 8,
}
_STAGES: Final = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 16, 16]}

TEXT: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "BERT": ("Bert", _WIDE),
    "DistilBERT": (
        "DistilBert",
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 37, "initializer_range": 0.3},
    ),
    "RoBERTa": ("Roberta", _ONE_TYPE),
    "XLM-RoBERTa": ("XLMRoberta", _ONE_TYPE),
    "CamemBERT": ("Camembert", _ONE_TYPE),
    "MPNet": ("MPNet", _WIDE),
    "ALBERT": ("Albert", {**_WIDE, "embedding_size": 16}),
    "ELECTRA": ("Electra", {**_WIDE, "embedding_size": 16}),
    "DeBERTa-v2": (
        "DebertaV2",
        {
            **_WIDE,
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_buckets": 16,
            "share_att_key": True,
            "norm_rel_ebd": "layer_norm",
        },
    ),
    "MobileBERT": ("MobileBert", {**_WIDE, "embedding_size": 16, "intra_bottleneck_size": 16}),
    "ModernBERT": ("ModernBert", {**_WIDE, "global_attn_every_n_layers": 2, "local_attention": 16}),
}
"""Name -> start of the class names, config; the head is `...ForSequenceClassification`."""

PICTURES: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "ViT": ("ViT", _PICTURE),
    "DeiT": ("DeiT", _PICTURE),
    "BEiT": ("Beit", _PICTURE),
    "DINOv2": ("Dinov2", {**_PICTURE, "mlp_ratio": 2}),
    "Swin": (
        "Swin",
        {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2]}
        | {"window_size": 4, "initializer_range": 0.3},
    ),
    "ResNet": ("ResNet", {**_STAGES, "embedding_size": 8, "layer_type": "basic"}),
    "ConvNeXt": ("ConvNext", {**_STAGES, "initializer_range": 0.3}),
    "MobileNetV2": ("MobileNetV2", {"image_size": 32, "depth_multiplier": 0.35}),
}
"""The same; the head is `...ForImageClassification`."""


def _text(folder: Path, kind: str, values: dict[str, Any]) -> str:
    tokenizer = bert_tokenizer(128)
    made = {**values, "vocab_size": len(tokenizer), "pad_token_id": 0, "num_labels": 3}
    settings = getattr(transformers, f"{kind}Config")(**made)
    getattr(transformers, f"{kind}ForSequenceClassification")(settings).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return "text-classification"


def _picture(folder: Path, kind: str, values: dict[str, Any]) -> str:
    settings = getattr(transformers, f"{kind}Config")(**values, num_labels=3)
    getattr(transformers, f"{kind}ForImageClassification")(settings).save_pretrained(folder)
    sizes = {"height": 32, "width": 32}
    transformers.ViTImageProcessorPil(size=sizes).save_pretrained(folder)
    return "image-classification"


def _clip(folder: Path) -> str:
    save_clip(folder)
    return "zero-shot-image-classification"


def _siglip(folder: Path) -> str:
    settings = transformers.SiglipConfig(vision_config=_PICTURE, num_labels=3)
    transformers.SiglipForImageClassification(settings).save_pretrained(folder)
    sizes = {"height": 32, "width": 32}
    transformers.SiglipImageProcessorPil(size=sizes).save_pretrained(folder)
    return "image-classification"


def architectures() -> dict[str, Callable[[Path], str]]:
    """Name -> writes a checkpoint and says its task."""

    def bound(make: Callable[..., str], *rest: Any) -> Callable[[Path], str]:
        return lambda folder: make(folder, *rest)

    found = {name: bound(_text, *entry) for name, entry in TEXT.items()}
    found |= {name: bound(_picture, *entry) for name, entry in PICTURES.items()}
    return found | {"CLIP": _clip, "SigLIP": _siglip}


def measure(name: str, folder: Path) -> list[dict[str, Any]]:
    """One row an exporter."""
    torch.manual_seed(0)
    task = architectures()[name](folder)
    spec = TaskSpec.model_validate({"name": "m", "task": task, "checkpoint": {"path": str(folder)}})
    rows = []
    for exporter in EXPORTERS:
        row: dict[str, Any] = {"architecture": name, "task": task, "exporter": exporter}
        try:
            row |= _exported(spec, folder, exporter)
        except BuilderError as error:
            row |= {"passed": False, "error": str(error).replace(str(folder), "CHECKPOINT")}
        except Exception as error:  # an artifact that does not run
            first = str(error).strip().splitlines()[0]
            row |= {"passed": False, "error": f"does not run: {first}"}
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def _exported(spec: TaskSpec, folder: Path, exporter: Any) -> dict[str, Any]:
    errors, cosines, nodes, passed = [0.0], [1.0], 0, True
    for graph in task_of(spec, folder).graphs():
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "model.onnx"
            export_graph(graph, path, exporter, onnx_limits(RELEASE))
            nodes += len(onnx.load(path, load_external_data=False).graph.node)
            for row in verify_graph(graph.name, path, list(graph.samples()), spec.tolerance):
                passed &= row.passed
                errors.append(row.max_abs_error)
                cosines.append(row.min_cosine)
    found: dict[str, Any] = {
        "passed": passed,
        "nodes": nodes,
        "max_abs_error": max(errors),
        "min_cosine": min(cosines),
    }
    if not passed:
        found["error"] = f"over tolerance: error {max(errors):.1e}, cosine {min(cosines):.6f}"
    return found


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "not measured"
    return f"passes, {row['max_abs_error']:.0e}" if row["passed"] else "**fails**"


def table(rows: list[dict[str, Any]]) -> str:
    """The table for the documentation: largest error of what passes, sentences of what fails."""
    found = {(row["architecture"], row["exporter"]): row for row in rows}
    lines = [f"| architecture | task | {' | '.join(EXPORTERS)} |", "|---|---|---|---|---|"]
    names = [name for name in architectures() if any(key[0] == name for key in found)]
    for name in names:
        mine = [found.get((name, exporter)) for exporter in EXPORTERS]
        task = next(row["task"] for row in mine if row)
        lines.append(f"| {name} | {task} | {' | '.join(map(_cell, mine))} |")
    failed = [row for row in rows if not row["passed"]]
    if failed:
        lines += ["", "What is said where one fails:", ""]
    for name in names:
        for row in failed:
            if row["architecture"] == name:
                lines.append(f"- {name}, {row['exporter']}: {row['error']}")
    return "\n".join(lines) + "\n"


def _write_document(rows: list[dict[str, Any]]) -> None:
    text = DOCUMENT.read_text()
    head, rest = text.split(MARKS[0])
    _, tail = rest.split(MARKS[1])
    DOCUMENT.write_text(head + MARKS[0] + table(rows) + MARKS[1] + tail)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*architectures(), []], metavar="NAME")
    names = parser.parse_args().names or list(architectures())
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    old = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    rows = [row for row in old if row["architecture"] not in names]
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(name, Path(folder))
        _write(rows)


def _write(rows: list[dict[str, Any]]) -> None:
    order = {name: place for place, name in enumerate(architectures())}
    rows = sorted(rows, key=lambda row: order[row["architecture"]])
    packages = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime")
    result = {
        "machine": platform.processor() or platform.machine(),
        "commit": commit(),
        "versions": {name: version(name) for name in packages}
        | {"in .venv-optimum": "transformers 4.57.6, optimum 2.1.0, optimum-onnx 0.1.0"},
        "triton_release": RELEASE,
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    if MARKS[0] in DOCUMENT.read_text():
        _write_document(rows)


if __name__ == "__main__":
    main()
