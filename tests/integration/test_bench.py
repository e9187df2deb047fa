"""`builder bench` with the real perf_analyzer on a real tritonserver."""

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
import typer
from onnx import TensorProto, helper
from typer.testing import CliRunner

from builder.bench import tool
from builder.cli.bench import bench
from builder.errors import BuilderError, ServerError, ToolError

ONE = "instance_group { count: 1 kind: KIND_CPU }\n"
READ = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            read = lambda name: pb_utils.get_input_tensor_by_name(request, name).as_numpy().flat[0]
            assert read("IMAGE").startswith(b"\\x89PNG"), read("IMAGE")[:8]
            assert read("PROMPT") == "größer?".encode(), read("PROMPT")
            count = pb_utils.Tensor("COUNT", np.array([[read("MAX_TOKENS")]], np.int32))
            responses.append(pb_utils.InferenceResponse([count]))
        return responses
"""
STREAM = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            count = pb_utils.get_input_tensor_by_name(request, "COUNT").as_numpy().flat[0]
            sender = request.get_response_sender()
            for index in range(count):
                out = pb_utils.Tensor("OUT", np.array([[index]], np.int32))
                sender.send(pb_utils.InferenceResponse([out]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
IMAGE_AND_PROMPT = """
max_batch_size: 1
input [
  { name: "IMAGE" data_type: TYPE_STRING dims: 1 },
  { name: "PROMPT" data_type: TYPE_STRING dims: 1 },
  { name: "MAX_TOKENS" data_type: TYPE_INT32 dims: 1 }
]
"""
OUT = 'output { name: "OUT" data_type: TYPE_INT32 dims: 1 }\n'
STEPS = """
ensemble_scheduling { step [
  { model_name: "read" model_version: -1
    input_map [ { key: "IMAGE" value: "IMAGE" }, { key: "PROMPT" value: "PROMPT" },
                { key: "MAX_TOKENS" value: "MAX_TOKENS" } ]
    output_map { key: "COUNT" value: "count" } },
  { model_name: "stream" model_version: -1
    input_map { key: "COUNT" value: "count" } output_map { key: "OUT" value: "OUT" } }
] }
"""


@pytest.fixture
def repository(tmp_path: Path, write_model: Any) -> Path:
    """An ensemble like arr_coc, and an ONNX model whose ids must be below 10."""
    folder = tmp_path / "repository"
    count = '{ name: "COUNT" data_type: TYPE_INT32 dims: 1 }\n'
    write_model(folder, "read", READ, f'backend: "python"\n{ONE}{IMAGE_AND_PROMPT}output {count}')
    write_model(
        folder,
        "stream",
        STREAM,
        f'backend: "python"\n{ONE}max_batch_size: 1\ninput {count}{OUT}'
        "model_transaction_policy { decoupled: true }\n",
    )
    write_model(folder, "pipeline", None, f'platform: "ensemble"\n{IMAGE_AND_PROMPT}{OUT}{STEPS}')
    table = helper.make_tensor("table", TensorProto.FLOAT, [10], [1.0] * 10)
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["Y"])],
        "embed",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ("batch", "n"))],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, ("batch", "n"))],
        [table],
    )
    model: onnx.ModelProto = helper.make_model(
        graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)]
    )
    write_model(
        folder,
        "embed",
        model,
        f'backend: "onnxruntime"\n{ONE}max_batch_size: 4\n'
        'input { name: "input_ids" data_type: TYPE_INT64 dims: -1 }\n'
        'output { name: "Y" data_type: TYPE_FP32 dims: -1 }\n',
    )
    return folder


def run(*arguments: str) -> str:
    app = typer.Typer()
    app.command()(bench)
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None:
        raise result.exception
    return result.output


def test_an_ensemble_and_a_model_are_measured(repository: Path, tmp_path: Path) -> None:
    json_file, plot_file = tmp_path / "out.json", tmp_path / "out.png"
    shown = run(
        *(str(repository), "pipeline", "embed", "--concurrency", "2,1"),
        *("--question", "größer?", "--max-tokens", "3", "--shape", "input_ids:5"),
        *("--measurement-interval", "200", "--json", str(json_file), "--plot", str(plot_file)),
    )
    rows = json.loads(json_file.read_text())["rows"]
    measured = [(row["model"], row["concurrency"]) for row in rows]
    assert measured == [("pipeline", 1), ("pipeline", 2), ("embed", 1), ("embed", 2)]
    for row in rows:
        assert row["throughput"] > 0
        assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
        assert row["server"]["compute_ms"] > 0
        streamed = row["model"] == "pipeline"
        assert row["latency_of"] == ("first response" if streamed else "response")
        assert list(row["stages"]) == (["read", "stream"] if streamed else [])
        if streamed:
            # Three tokens; the empty final response may be counted too.
            assert 2.5 < row["response_throughput"] / row["throughput"] < 4.5
        assert row["model"] in shown
    assert plot_file.read_bytes().startswith(b"\x89PNG")


def test_mistakes_are_clear_errors(
    serve_repository: Any, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve_repository(repository, load=["embed"]) as server:
        there = (str(repository), "--url", server.grpc_url)
        cases: list[tuple[tuple[str, ...], type[BuilderError], str]] = [
            (("nope",), ServerError, "model 'nope' is not served at"),
            (("embed",), ToolError, "--shape input_ids:N or give --input-data"),
            (("embed", "--input-data", "/nowhere"), ToolError, "/nowhere is not a file"),
            (("embed", "--image", "a.png"), ToolError, "'embed' takes no IMAGE"),
            (("embed", "--concurrency", "1,x"), ToolError, "not a list of whole numbers"),
            (("embed", "--plot", "a.txt"), ToolError, r"ends with \.png"),
        ]
        for arguments, kind, message in cases:
            with pytest.raises(kind, match=message):
                run(*there, *arguments)
        bad = tmp_path / "bad.json"
        bad.write_text('{"data": [{"input_ids": {"content": [77], "shape": [1]}}]}')
        with pytest.raises(ToolError, match=r"perf_analyzer on model 'embed': .*the index 77"):
            run(*there, "embed", "--input-data", str(bad), "--measurement-interval", "200")
    monkeypatch.setattr(tool.sys, "prefix", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match=r"run scripts/install_native_libs\.sh"):
        tool.find_perf_analyzer()


SLOW = """
import time
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        time.sleep(0.05)
        return [
            pb_utils.InferenceResponse([
                pb_utils.Tensor("Y", pb_utils.get_input_tensor_by_name(r, "X").as_numpy())
            ])
            for r in requests
        ]
"""


def test_refused_requests_are_counted_and_end_nothing(
    serve_repository: Any, write_model: Any, tmp_path: Path
) -> None:
    write_model(
        tmp_path / "repository",
        "bounded",
        SLOW,
        f'backend: "python"\n{ONE}max_batch_size: 1\n'
        'input { name: "X" data_type: TYPE_FP32 dims: 3 }\n'
        'output { name: "Y" data_type: TYPE_FP32 dims: 3 }\n'
        "dynamic_batching { default_queue_policy { max_queue_size: 1 } }\n",
    )
    json_file = tmp_path / "out.json"
    with serve_repository(tmp_path / "repository") as server:
        shown = run(
            *(str(tmp_path / "repository"), "bounded", "--url", server.grpc_url),
            *("--concurrency", "1,8", "--measurement-interval", "400", "--json", str(json_file)),
        )
    alone, many = json.loads(json_file.read_text())["rows"]
    assert alone["refused"] == 0 and many["refused"] > 0
    for row in (alone, many):
        assert row["throughput"] > 0 and row["p50_ms"] >= 50
    assert f"bounded at 8: {many['refused']} requests refused" in " ".join(shown.split())
