"""Settings that do not fit the model that they are written at: one sentence each."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builder.errors import SpecError
from builder.render.model_config import ModelConfig
from builder.spec.language import LanguageStage
from builder.spec.triton import EnsembleSettings, TritonModel
from builder.spec.triton.model import BatchedStage

from .test_render import BASE, DYNAMIC, ENSEMBLE, PYTHON, applied

STREAM = replace(PYTHON, decoupled=True)


def warm(**value: object) -> dict[str, object]:
    inputs = {"x": value, "t": {"zero_data": True}}
    return {"max_batch_size": 8, "model_warmup": [{"name": "w", "inputs": inputs}]}


BATCH_INPUT = {"kind": "BATCH_ELEMENT_COUNT", "target_name": ["n"], "source_input": ["z"]}
REFUSED = [
    (BASE, {"parameters": {"own": 2}}, "the builder writes 'own' itself"),
    (PYTHON, warm(random_data=True), r"'x' has free dims \[-1\]; add dims"),
    (PYTHON, warm(values=["a"]), "the values are no FP32 tensor"),
    (PYTHON, warm(values=[[1.0], [2.0]]), r"has the dims \[-1\], the sample \[2, 1\]"),
    (PYTHON, warm(input_data_file="gone.npy"), "gone.npy can't be read: No such file"),
    (PYTHON, warm(input_data_file="int.npy"), "int.npy is int64, the input FP32"),
    (PYTHON, warm(input_data_file="no.npy"), "is no .npy file"),
    (PYTHON, warm(input_data_file="raw", dims=[3]), "has 4 bytes of data"),
    (
        PYTHON,
        {"model_warmup": [{"name": "w", "inputs": {"x": {"zero_data": True, "dims": [1]}}}]},
        "the input 't' is missing",
    ),
    (
        PYTHON,
        {"model_warmup": [{"name": "w", "inputs": {"u": {"zero_data": True}}}]},
        "the model has no input 'u'; it has x, t",
    ),
    (PYTHON, {"model_operations": {"op_library_filename": ["a"]}}, "are for ONNX models"),
    (
        PYTHON,
        {
            "optimization": {
                "execution_accelerators": {"cpu_execution_accelerator": [{"name": "openvino"}]}
            }
        },
        "execution_accelerators are ONNX Runtime's",
    ),
    (
        BASE,
        {
            "optimization": {
                "execution_accelerators": {"cpu_execution_accelerator": [{"name": "xla"}]}
            }
        },
        "there is no 'xla'; use openvino",
    ),
    (BASE, {"max_batch_size": 8, "batch_input": [BATCH_INPUT]}, "there is no input 'z'"),
    (
        BASE,
        {"batch_output": [{"target_name": ["z"], "source_input": ["x"]}]},
        "the output 'z' is none of y",
    ),
    (
        BASE,
        {"batch_output": [{"target_name": ["y", "y"], "source_input": ["x"]}]},
        "the output 'y' is named twice",
    ),
    (replace(BASE, max_batch_size=0), {}, "allow_ragged_batch of input x needs a max_batch_size"),
    (
        PYTHON,
        {
            "sequence_batching": {
                "state": [{"input_name": "x", "output_name": "o", "data_type": "FP32", "dims": [1]}]
            }
        },
        "sequence_batching makes the input 'x' itself",
    ),
    (STREAM, {"response_cache": {"enable": True}}, "response_cache has no meaning here"),
]


@pytest.mark.parametrize(("config", "settings", "sentence"), REFUSED)
def test_what_does_not_fit_the_model_is_refused(
    tmp_path: Path, config: ModelConfig, settings: dict[str, Any], sentence: str
) -> None:
    np.save(tmp_path / "int.npy", np.array([1]))
    (tmp_path / "no.npy").write_text("text")
    (tmp_path / "raw").write_bytes(b"1234")
    with pytest.raises(SpecError, match=sentence) as raised:
        applied(config, TritonModel.model_validate(settings), tmp_path)
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith("m: ")


def test_a_stage_that_streams_joins_its_requests_itself() -> None:
    with pytest.raises(SpecError, match="dynamic_batching has no meaning here"):
        applied(STREAM, BatchedStage.model_validate({"dynamic_batching": {}}))
    for model in (BatchedStage, LanguageStage):
        with pytest.raises(SpecError, match=r"set slots instead of instance_group\.count"):
            applied(STREAM, model.model_validate({"instance_group": [{"count": 2}]}))


def test_fields_need_their_release() -> None:
    metrics = TritonModel.model_validate({"model_metrics": DYNAMIC["model_metrics"]})
    with pytest.raises(SpecError, match=r"m: model_metrics needs triton_release 24\.11"):
        applied(replace(PYTHON, max_batch_size=0), metrics, release="24.10")
    flight = EnsembleSettings.model_validate({"ensemble_scheduling": {"max_inflight_requests": 1}})
    with pytest.raises(SpecError, match=r"max_inflight_requests needs triton_release 25\.11"):
        applied(ENSEMBLE, flight, release="25.10")
    applied(ENSEMBLE, flight, release="25.11")
