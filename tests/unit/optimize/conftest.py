"""A tiny BERT and a tiny GPT-2, exported once, with what torch says of some inputs."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel

from builder.optimize.artifact import Surroundings
from builder.render.model_config import Tensor
from builder.spec.models import Tolerance
from builder.spec.releases import onnx_limits
from builder.tasks.export import export_graph
from builder.tasks.parity import verify_graph
from builder.tasks.task import Graph, Sample

LIMITS = onnx_limits("24.10")


class _Wrapped(torch.nn.Module):
    def __init__(self, model: Any, field: str, **options: Any) -> None:
        super().__init__()
        self.model, self.field, self.options = model, field, options

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        output = self.model(input_ids=input_ids, attention_mask=attention_mask, **self.options)
        return output[self.field]


@dataclass(frozen=True)
class Exported:
    """An exported model and what it is compared with."""

    path: Path
    samples: list[Sample]

    @property
    def feeds(self) -> list[dict[str, NDArray[Any]]]:
        return [dict(sample.inputs) for sample in self.samples]

    def around(self, **changes: Any) -> Surroundings:
        values: dict[str, Any] = {
            "target": "cpu",
            "limits": LIMITS,
            "exact": Tolerance(max_abs_error=1e-3, min_cosine=0.9999),
            "threads": 1,
            "verify": partial(_verify, self.samples),
            "feeds": self.feeds,
        }
        return Surroundings(**{**values, **changes})

    def error(self, path: Path) -> tuple[float, float]:
        """(max abs error, min cosine) of a file."""
        rows = _verify(self.samples, path, Tolerance())
        return max(row.max_abs_error for row in rows), min(row.min_cosine for row in rows)


def _verify(samples: list[Sample], path: Path, tolerance: Tolerance) -> Any:
    return verify_graph("tiny", path, samples, tolerance)


def _sample(module: torch.nn.Module, batch: int, tokens: int) -> Sample:
    ids = torch.randint(0, 90, (batch, tokens), generator=torch.Generator().manual_seed(tokens))
    mask = torch.ones_like(ids)
    mask[0, tokens - 2 :] = 0
    with torch.inference_mode():
        wanted = module(ids, mask).numpy()
    inputs = {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}
    return Sample(inputs, {"output": wanted}, {"output": mask.bool().numpy()})


def _export(module: torch.nn.Module, width: int, folder: Path) -> Exported:
    axes = {0: "batch", 1: "sequence"}
    ids = torch.arange(10).reshape(2, 5)
    tokens = (Tensor("input_ids", "INT64", (-1,)), Tensor("attention_mask", "INT64", (-1,)))
    graph = Graph(
        name="tiny",
        module=module.eval(),
        inputs=tokens,
        outputs=(Tensor("output", "FP32", (-1, width)),),
        axes={"input_ids": axes, "attention_mask": axes},
        example={"input_ids": ids, "attention_mask": torch.ones_like(ids)},
        samples=list,
    )
    path = folder / "model.onnx"
    export_graph(graph, path, "transformers", LIMITS)
    return Exported(path, [_sample(module, 1, 8), _sample(module, 3, 12)])


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=100,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=32,
    )
    model = BertModel(config, add_pooling_layer=False)
    return _export(_Wrapped(model, "last_hidden_state"), 64, tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=96, n_positions=32, n_embd=64, n_layer=2, n_head=4)
    module = _Wrapped(GPT2LMHeadModel(config), "logits", use_cache=False)
    return _export(module, 96, tmp_path_factory.mktemp("gpt2"))


@pytest.fixture
def records(bert: Exported) -> list[dict[str, NDArray[np.int64]]]:
    """Inputs to calibrate with: 40 rows of several lengths, unpadded."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(3, 20, 40)
    return [
        {
            "input_ids": generator.integers(0, 100, (1, length)),
            "attention_mask": np.ones((1, length), np.int64),
        }
        for length in lengths
    ]
