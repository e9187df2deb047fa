"""Every text task on torch and on OpenVINO, as the stages run them, against its checkpoint."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import setuptools  # noqa: F401 - see below
import torch

from builder.errors import ParityError
from builder.runtime.models.common.settings import WarmUp, from_parameters
from builder.runtime.models.torch_model.runner import TorchRunner
from builder.runtime.models.torch_model.torch_settings import TorchSettings
from builder.spec.engines import OpenVino
from builder.spec.releases import onnx_limits
from builder.tasks.engines import engine_configs, openvino_run, save_checkpoint, torch_run
from builder.tasks.export import export_graph
from builder.tasks.parity import verify_run
from builder.verify.measure import require_parity

from .conftest import HEADS, kind

# torch imports setuptools when it first compiles; late in a long test run that found another
# distutils than its own, and failed. Imported with this module, before any test, it is its own.


@pytest.fixture(autouse=True)
def _threads() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def on_torch(folder: Path, task: str, **settings: Any) -> tuple[Any, Any]:
    """A kind on engine torch, and the config of its graph."""
    model = {"engine": "torch", "torch": {"threads": 1, **settings}, "max_batch_size": 4}
    made = kind(folder, task, model=model)
    config = next(c for c in engine_configs(made, made.spec) if c.name == "m_model")
    return made, config


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("task", HEADS)
def test_torch_gives_what_the_checkpoint_gives(
    checkpoint: Any, tmp_path: Path, task: str, attention: str
) -> None:
    made, config = on_torch(checkpoint(f"bert {task}"), task, attention=attention)
    (graph,) = made.graphs()
    save_checkpoint(graph, tmp_path)
    rows = verify_run("m", torch_run(tmp_path, config), list(graph.samples()), made.spec.tolerance)
    assert {row.tensor for row in rows} == {tensor.name for tensor in graph.outputs}
    require_parity(rows)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}


@pytest.mark.parametrize("task", ["text-classification", "question-answering", "fill-mask"])
def test_openvino_gives_what_the_checkpoint_gives(
    checkpoint: Any, tmp_path: Path, task: str
) -> None:
    made = kind(checkpoint(f"roberta {task}"), task)
    (graph,) = made.graphs()
    path = tmp_path / "model.onnx"
    export_graph(graph, path, "transformers", onnx_limits("24.10"))
    run = openvino_run(path, OpenVino(threads=1))
    rows = verify_run("m", run, list(graph.samples()), made.spec.tolerance)
    assert {row.tensor for row in rows} == {tensor.name for tensor in graph.outputs}
    require_parity(rows)


def test_other_weights_are_over_tolerance(checkpoint: Any, tmp_path: Path) -> None:
    made, config = on_torch(checkpoint("bert text-classification"), "text-classification")
    (graph,) = made.graphs()
    samples = list(graph.samples())
    with torch.no_grad():
        graph.module.model.classifier.weight.add_(0.1)
    save_checkpoint(graph, tmp_path)
    rows = verify_run("m", torch_run(tmp_path, config), samples, made.spec.tolerance)
    with pytest.raises(ParityError, match="over tolerance"):
        require_parity(rows)


def test_a_batch_is_filled_up_to_a_compiled_size_and_cut_again(
    checkpoint: Any, tmp_path: Path
) -> None:
    folder = checkpoint("bert text-classification")
    made, config = on_torch(
        folder, "text-classification", compile={"dynamic": False, "batch_sizes": [1, 4]}
    )
    (graph,) = made.graphs()
    save_checkpoint(graph, tmp_path)
    runner = TorchRunner(tmp_path, from_parameters(TorchSettings, config.parameters), ["logits"])
    sizes = []
    compiled = runner._module

    def watched(**tensors: Any) -> Any:
        sizes.append(len(tensors["input_ids"]))
        return compiled._orig_mod(**tensors)

    runner._module = watched
    sample = max(graph.samples(), key=lambda sample: sample.batch)
    for count, size in ((1, 1), (2, 4), (3, 4), (4, 4), (5, 5)):
        inputs = {name: array[:count] for name, array in sample.inputs.items()}
        found = runner.run(inputs)["logits"]
        assert sizes.pop() == size
        np.testing.assert_allclose(found, sample.wanted["logits"][:count], atol=1e-3)


def test_frozen_weights_are_constants_and_no_graph_is_shared(
    checkpoint: Any, tmp_path: Path
) -> None:
    folder = checkpoint("bert text-classification")
    found = {}
    for freeze in (False, True):
        made, config = on_torch(folder, "text-classification", compile={"freeze": freeze})
        (graph,) = made.graphs()
        save_checkpoint(graph, tmp_path)
        runner = TorchRunner(
            tmp_path, from_parameters(TorchSettings, config.parameters), ["logits"]
        )
        inputs = next(iter(graph.samples())).inputs
        before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        runner.warm_up([inputs])
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before + 1
        first = runner.run(inputs)["logits"]
        runner._module._orig_mod.model.classifier.weight.data.mul_(2)  # seen by no guard
        found[freeze] = np.array_equal(runner.run(inputs)["logits"], first)
    assert found == {False: False, True: True}


def test_every_bucket_and_batch_size_is_warmed_up(checkpoint: Any) -> None:
    folder = checkpoint("bert question-answering")
    _, config = on_torch(folder, "question-answering", compile={})
    settings = from_parameters(TorchSettings, config.parameters)
    inputs = [{"name": t.name, "data_type": f"TYPE_{t.data_type}"} for t in config.inputs]
    warm_up = WarmUp.of(settings, {"input": inputs})
    batches = warm_up.batches()
    shapes = {batch["input_ids"].shape for batch in batches}
    assert shapes == {(b, 1, s) for b in (1, 2, 4) for s in (16, 32, 64, 128)}
    assert all(batch["attention_mask"].all() for batch in batches), "nothing is masked"
    assert replace(config, warmup=()) == config, "the stage warms up, not Triton"
