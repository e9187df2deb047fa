"""What a canary file may say, and what is asked where there is none."""

import base64
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from builder.render.canary import write_canaries
from builder.render.model_config import EnsembleStep, ModelConfig, Tensor
from builder.watch.canary import CANARY_NAME, CanaryError, derive_canary, read_canary


def write(folder: Path, *inputs: dict[str, Any]) -> None:
    (folder / CANARY_NAME).write_text(json.dumps({"inputs": inputs}))


def test_a_file_becomes_a_request(tmp_path: Path) -> None:
    picture = b"\x89PNG\0"
    write(
        tmp_path,
        {
            "name": "IMAGE",
            "datatype": "BYTES",
            "shape": [1, 1],
            "data": [base64.b64encode(picture).decode()],
            "parameters": {"content_type": "base64"},
        },
        {"name": "PROMPT", "datatype": "BYTES", "shape": [1, 2], "data": [["ä", "b"]]},
        {"name": "X", "datatype": "FP32", "shape": [2, 2], "data": [[1, 2], [3, 4.5]]},
        {"name": "ON", "datatype": "BOOL", "shape": [1], "data": [True]},
    )
    request = read_canary(tmp_path, "m")
    assert request is not None
    assert request.model_name == "m"
    assert [(t.name, t.datatype, list(t.shape)) for t in request.inputs] == [
        ("IMAGE", "BYTES", [1, 1]),
        ("PROMPT", "BYTES", [1, 2]),
        ("X", "FP32", [2, 2]),
        ("ON", "BOOL", [1]),
    ]
    assert list(request.raw_input_contents) == [
        struct.pack("<I", len(picture)) + picture,
        b"\2\0\0\0" + "ä".encode() + b"\1\0\0\0b",
        struct.pack("<4f", 1, 2, 3, 4.5),
        b"\1",
    ]


def test_no_file_is_no_request(tmp_path: Path) -> None:
    assert read_canary(tmp_path, "m") is None


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"name": "X", "datatype": "FP32", "shape": [3], "data": [1]}, "X has 1 elements"),
        ({"name": "X", "datatype": "BF16", "shape": [1], "data": [1]}, "which JSON can't hold"),
        ({"name": "X", "datatype": "INT8", "shape": [1], "data": [300]}, "no request of the Open"),
        ({"name": "X", "shape": [1], "data": [1]}, "'datatype'"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(tmp_path: Path, entry: dict[str, Any], said: str) -> None:
    write(tmp_path, entry)
    with pytest.raises(CanaryError, match=said):
        read_canary(tmp_path, "m")


def test_a_config_is_asked_with_its_smallest_request() -> None:
    config = text_format.Parse(
        """
        name: "m" max_batch_size: 4
        input { name: "ids" data_type: TYPE_INT64 dims: [-1, 2] }
        input { name: "text" data_type: TYPE_STRING dims: 2 }
        input { name: "half" data_type: TYPE_BF16 dims: 3 }
        input { name: "option" data_type: TYPE_FP32 dims: 1 optional: true }
        """,
        model_config_pb2.ModelConfig(),
    )
    request = derive_canary(config)
    assert [(t.name, t.datatype, list(t.shape)) for t in request.inputs] == [
        ("ids", "INT64", [1, 1, 2]),
        ("text", "BYTES", [1, 2]),
        ("half", "BF16", [1, 3]),
    ]
    assert list(request.raw_input_contents) == [bytes(16), bytes(8), bytes(6)]


def test_a_build_writes_canaries_of_what_clients_call(tmp_path: Path) -> None:
    text, mask = Tensor("TEXT", "STRING", (1,)), {"mask_token": "<m>"}
    ids, other = Tensor("ids", "INT64", (-1,)), Tensor("OTHER", "STRING", (1,))
    maps = ({"TEXT": "TEXT"}, {"ids": "ids"})
    configs = [
        ModelConfig("python", "step", 8, (text,), (ids,), parameters=mask),
        ModelConfig("ensemble", "all", 8, (text,), (ids,), steps=(EnsembleStep("step", *maps),)),
        ModelConfig("python", "unknown", 8, (text, other), (ids,)),
    ]
    for config in configs:
        (tmp_path / config.name).mkdir()
    write_canaries(configs, tmp_path)
    assert [path.parent.name for path in tmp_path.rglob(CANARY_NAME)] == ["all"]
    request = read_canary(tmp_path / "all", "all")
    assert request is not None
    assert b"<m>" in request.raw_input_contents[0]
