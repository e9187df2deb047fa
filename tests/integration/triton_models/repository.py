"""The repository of `test_model_config.py`: every setting, written by the builder."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import parser
from ruamel.yaml import YAML

from builder.build import Build
from builder.progress import Progress
from builder.render.model_config import EnsembleStep, ModelConfig, Tensor
from builder.render.models import write_models
from builder.render.settings import with_settings
from builder.spec.load import load_any_spec
from builder.spec.triton import EnsembleSettings, ModelSettings, TritonModel
from examples.tiny.tasks import labels, save_text_model
from tests.integration.triton_models.graph_members import ONNX, TASK
from tests.integration.triton_models.python_members import CONTROLS, GATE, PYTHON, RECORDED, TAG

HERE = Path(__file__).parent
RELEASE = "24.10"


class _Quiet(Progress):
    """Shows nothing."""


def write_sources(folder: Path) -> None:
    """What the specs refer to: samples, states, labels, a library, and a checkpoint."""
    save_text_model(
        folder / "checkpoint", "SequenceClassification", "bert", **labels("bad", "good")
    )
    np.save(folder / "sample.npy", np.array([1.5, 2.5, 3.5], np.float32))
    np.save(folder / "begin.npy", np.array([10, 20], np.float32))
    (folder / "animals.txt").write_text("cat\ndog\nowl\n")
    library = folder / "pairs.so"
    source = HERE / "pairs.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source], check=True)


def _python_member(name: str, log: Path) -> dict[str, Any]:
    source, inputs, outputs, said = PYTHON[name]
    model = {key: value for key, value in said.items() if key != "parameters"}
    if source == "summing":
        model["sequence_batching"] = {**model["sequence_batching"], "control_input": CONTROLS}
    return {
        "name": name,
        "python": {"path": str(HERE / f"{source}.py")},
        "model": model,
        "inputs": [_declared(tensor) for tensor in inputs],
        "outputs": [_declared(tensor) for tensor in outputs],
        "parameters": {"folder": str(log), **said.get("parameters", {})},
    }


def _declared(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "data_type": tensor.data_type, "dims": list(tensor.dims)}


def repository_spec(log: Path) -> dict[str, Any]:
    """All models as one repository."""
    texts = {"TAG": "TAG", "GATE": "GATE"}
    return {
        "name": "settings",
        "triton_release": RELEASE,
        "members": [
            *(_python_member(name, log) for name in PYTHON),
            TASK,
            *({"name": n, "onnx": {"path": f"{n}.onnx"}, **said} for n, (_, said) in ONNX.items()),
        ],
        "ensembles": [
            {
                "name": "remembered",
                "steps": [{"model": "grouped", "in": texts, "out": {"SIZE": "SIZE", "WHO": "WHO"}}],
                "response_cache": {"enable": True},
                "metric_tags": {"of": "an ensemble"},
            }
        ],
    }


def write_repository(folder: Path, log: Path) -> Path:
    """Build every model.

    Args:
        folder: Where the spec and what it refers to go.
        log: Where the models write what they do.
    """
    write_sources(folder)
    repository = folder / "repository"
    for name, (graph, _) in ONNX.items():
        onnx.save_model(parser.parse_model(graph), str(folder / f"{name}.onnx"))
    path = folder / "settings.yaml"
    with path.open("w") as file:
        YAML().dump(repository_spec(log), file)
    Build(load_any_spec(path), path, repository, _Quiet()).run()
    for name in ("latest", "specific", "every"):
        for version in ("2", "3"):
            shutil.copytree(repository / name / "1", repository / name / version)
    return repository


def write_unloadable(repository: Path) -> None:
    """Models that this server must refuse: fields that are younger, a library that is not there."""
    metrics = {
        "metric_control": [
            {
                "metric_identifier": {"family": "nv_inference_first_response_histogram_ms"},
                "histogram_options": {"buckets": [1, 10]},
            }
        ]
    }
    python = ModelConfig("python", "metrics", 0, (TAG, GATE), RECORDED)
    step = EnsembleStep("cached", {"TAG": "TAG", "GATE": "GATE"}, {"SIZE": "SIZE", "WHO": "WHO"})
    ensemble = ModelConfig("ensemble", "flight", 0, (TAG, GATE), RECORDED, steps=(step,))
    x, y = Tensor("x", "FP32", (3,)), Tensor("y", "FP32", (3,))
    graph = ModelConfig("onnxruntime", "custom_ops", 4, (x,), (y,))
    said: list[tuple[ModelConfig, ModelSettings]] = [
        (python, TritonModel.model_validate({"model_metrics": metrics})),
        (
            ensemble,
            EnsembleSettings.model_validate({"ensemble_scheduling": {"max_inflight_requests": 4}}),
        ),
        (
            graph,
            TritonModel.model_validate(
                {
                    "max_batch_size": 4,
                    "model_operations": {"op_library_filename": ["/no/such/ops.so"]},
                }
            ),
        ),
    ]
    configs = [
        with_settings(config, settings, target="cpu", release="25.11", base=repository)
        for config, settings in said
    ]
    write_models(configs, {}, "test", repository, "1")
    shutil.copyfile(HERE / "recorder.py", repository / "metrics" / "1" / "model.py")
    shutil.copyfile(
        repository / "labelled" / "1" / "model.onnx", repository / "custom_ops" / "1" / "model.onnx"
    )
