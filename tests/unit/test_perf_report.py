"""perf_analyzer's reports, and the requests that it is given. Reports are recorded runs."""

import base64
import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from builder.bench import inputs, show
from builder.bench.report import ServerTime, parse
from builder.errors import ToolError

PLAIN = """\
Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,\
Server Compute Input,Server Compute Infer,Server Compute Output,Client Recv,p50 latency,\
p90 latency,p95 latency,p99 latency,Avg latency,request/response,response wait
8,2818.04,2,329,111,13,140,108,0,620,914,1062,3423,701,2,694
1,1000.5,2,329,11,1,40,8,0,320,414,500,900,333,2,694
"""
DECOUPLED = """\
Concurrency,Inferences/Second,Response Throughput,Client Send,Network+Server Send/Recv,\
Server Queue,Server Compute Input,Server Compute Infer,Server Compute Output,Client Recv,\
p50 latency,p90 latency,p95 latency,p99 latency,Avg latency,request/response,response wait
2,1125.38,3376.15,0,653,1,28,922,33,0,1509,1880,2053,5164,1638,0,0
"""
ENSEMBLE_OUTPUT = """\
Request concurrency: 2
  Client:
    Request count: 2037
    Avg latency: 1638 usec (standard deviation 2927 usec)

  Server:
    Inference count: 2038
    Execution count: 2038
    Successful request count: 2038
    Avg request latency: 1465 usec (overhead 14 usec + queue 467 usec + compute 984 usec)

  Composing models:
  pre, version: 1
      Inference count: 2038
      Execution count: 2038
      Successful request count: 2038
      Avg request latency: 322 usec (overhead 1 usec + queue 64 usec + compute input 15 usec \
+ compute infer 214 usec + compute output 27 usec)

  stream, version: 1
      Inference count: 2038
      Execution count: 2038
      Successful request count: 2038
      Avg request latency: 1131 usec (overhead 1 usec + queue 403 usec + compute input 13 usec \
+ compute infer 708 usec + compute output 5 usec)

Inferences/Second vs. Client Average Batch Latency
"""


def test_rows_become_measurements_in_ms_by_concurrency() -> None:
    one, eight = parse("m", PLAIN, "")
    assert (one.concurrency, eight.concurrency) == (1, 8)
    assert eight.throughput == 2818.04
    assert (eight.avg_ms, eight.p50_ms, eight.p95_ms, eight.p99_ms) == (0.701, 0.62, 1.062, 3.423)
    assert eight.server.queue_ms == pytest.approx(0.111)
    assert eight.server.compute_ms == pytest.approx(0.261)
    assert eight.latency_of == "response"
    assert eight.response_throughput is None
    assert eight.stages == {}


def test_a_decoupled_model_is_measured_to_its_first_response() -> None:
    (row,) = parse("m", DECOUPLED, "")
    assert row.latency_of == "first response"
    assert row.response_throughput == 3376.15


def test_an_ensembles_server_times_are_its_own_and_its_stages() -> None:
    (row,) = parse("ens", DECOUPLED, ENSEMBLE_OUTPUT)
    assert row.server == ServerTime(queue_ms=0.467, compute_ms=0.984)
    assert list(row.stages) == ["pre", "stream"]
    assert row.stages["pre"].queue_ms == pytest.approx(0.064)
    assert row.stages["pre"].compute_ms == pytest.approx(0.256)
    assert row.stages["stream"].compute_ms == pytest.approx(0.726)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no measurement of model 'm'"),
        ("Concurrency,Inferences/Second\n1,2.0\n", "has no p50 latency, p95 latency, p99 latency"),
        (PLAIN.replace("2818.04", "fast"), "'fast' for Inferences/Second, not a number"),
    ],
)
def test_another_report_is_refused(text: str, message: str) -> None:
    with pytest.raises(ToolError, match=message):
        parse("m", text, "")


def test_the_table_fits_a_terminal_and_holds_every_number() -> None:
    rows = [*parse("ens", DECOUPLED, ENSEMBLE_OUTPUT, stable=False), *parse("plain", PLAIN, "")]
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(show.table(rows))
    text = console.export_text()
    assert "…" not in text
    for word in ("ens*~", "pre", "1125", "3376", "0.47", "plain ", "2818", "3.42", "unstable"):
        assert word in text


def test_the_json_document_holds_every_measurement(tmp_path: Path) -> None:
    rows = parse("plain", PLAIN, "")
    show.write_json(tmp_path / "new" / "out.json", Path("repo"), rows)
    written = json.loads((tmp_path / "new" / "out.json").read_text())
    assert written["repository"] == "repo"
    assert [row["p50_ms"] for row in written["rows"]] == [0.32, 0.62]


def strings(tensor: dict[str, Any]) -> list[bytes]:
    packed, items = base64.b64decode(tensor["b64"]), []
    while packed:
        (size,) = struct.unpack_from("<I", packed)
        items.append(packed[4 : 4 + size])
        packed = packed[4 + size :]
    return items


def array(tensor: dict[str, Any], dtype: Any) -> np.ndarray[Any, Any]:
    return np.frombuffer(base64.b64decode(tensor["b64"]), dtype).reshape(tensor["shape"])


def test_a_picture_goes_in_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    Image.new("RGB", (8, 6), "red").save(file)
    (item,) = inputs.picture_data(file, "why?", 7)["data"]
    assert strings(item["IMAGE"]) == [file.read_bytes()]
    assert (item["PROMPT"], item["MAX_TOKENS"]) == (["why?"], [7])


def test_without_a_picture_one_is_drawn() -> None:
    (item,) = inputs.picture_data(None, "why?", 7)["data"]
    (content,) = strings(item["IMAGE"])
    assert Image.open(io.BytesIO(content)).size == (448, 448)


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"no picture")
    with pytest.raises(ToolError, match="is not a readable picture"):
        inputs.picture_data(file, "why?", 7)


def config(*tensors: tuple[str, str, list[int]], optional: str = "") -> dict[str, Any]:
    described = [
        {"name": name, "data_type": f"TYPE_{dtype}", "dims": [str(dim) for dim in dims]}
        for name, dtype, dims in tensors
    ]
    return {"name": "m", "input": [{**io, "optional": io["name"] == optional} for io in described]}


def test_data_made_for_a_model_is_what_it_can_take() -> None:
    made = inputs.model_data(
        config(
            ("pixels", "UINT8", [4, 4, 3]),
            ("query_ids", "INT32", [6]),
            ("query_length", "INT32", [1]),
            ("attention_mask", "INT64", [-1]),
            ("text", "STRING", [2]),
            ("scores", "FP32", [3]),
            ("extra", "FP32", [-1]),
            optional="extra",
        ),
        {"attention_mask": [5]},
    )
    first, second, *_ = made["data"]
    assert "extra" not in first
    assert array(first["pixels"], np.uint8).shape == (4, 4, 3)
    ids = array(first["query_ids"], np.int32)
    assert ids.min() >= 1
    assert ids.max() < 10
    assert array(first["query_length"], np.int32).tolist() == [6]
    assert array(first["attention_mask"], np.int64).tolist() == [1] * 5
    assert len(strings(first["text"])) == 2
    assert (
        array(first["scores"], np.float32).tolist() != array(second["scores"], np.float32).tolist()
    )


def test_a_varying_dim_must_be_given() -> None:
    with pytest.raises(ToolError, match=r"--shape ids:N,3 or give --input-data"):
        inputs.model_data(config(("ids", "INT64", [-1, 3])), {})
    with pytest.raises(ToolError, match="must fit"):
        inputs.model_data(config(("ids", "INT64", [-1, 3])), {"ids": [2, 4]})
    with pytest.raises(ToolError, match="has no input idz"):
        inputs.model_data(config(("ids", "INT64", [3])), {"idz": [3]})


@pytest.mark.parametrize("option", ["ids", "ids:", "ids:0", "ids:a", ":3"])
def test_a_shape_option_is_checked(option: str) -> None:
    with pytest.raises(ToolError, match="is not NAME:D1,D2"):
        inputs.parse_shapes([option])
