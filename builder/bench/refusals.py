"""A load on a model that refuses requests beyond its queue bound: they are counted.

perf_analyzer ends at the first request that fails. Where a bounded queue is full that is what a
server is asked for, and what it still answers is the measurement.
"""

import base64
import json
import statistics
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

from builder.bench.report import Measurement, ServerTime
from builder.bench.tool import Load
from builder.errors import ToolError

_FULL: Final = "maximum queue size"
"""What Triton says where a queue is full (core, src/scheduler_utils.cc)."""

_PAUSE: Final = 0.005
"""Seconds that a client waits after a refusal: a loop of refusals would measure nothing else."""

_WINDOWS: Final = 3
_NS_PER_MS: Final = 1e6


def is_full(text: str) -> bool:
    """Whether an error is that of a full queue."""
    return _FULL in text.lower()


@dataclass
class _Seen:
    """What the clients saw, together."""

    milliseconds: list[float] = field(default_factory=list)
    refused: int = 0
    failure: str = ""


def measure_refusing(model: str, load: Load) -> Measurement:
    """Ask a model from `load.concurrency` clients, each with one request at a time.

    Args:
        model: Its name.
        load: With `input_data`, a JSON file as for perf_analyzer; three of its windows are run.

    Raises:
        ToolError: a request failed for another reason, or none was answered.
    """
    with InferenceServerClient(load.url) as client:
        metadata = client.get_model_metadata(model, as_json=True)
        types = {tensor["name"]: tensor["datatype"] for tensor in metadata["inputs"]}
        config = client.get_model_config(model, as_json=True)["config"]
        batched = int(config.get("max_batch_size", 0)) > 0
        items = json.loads(Path(str(load.input_data)).read_text())["data"]
        requests = [list(_inputs(item, types, batched=batched)) for item in items]
        before = _server(client, model)
        seen, seconds = _run(model, load, requests)
        after = _server(client, model)
    if seen.failure or not seen.milliseconds:
        raise ToolError(f"model '{model}': {seen.failure or 'it refused every request'}")
    found = np.array(seen.milliseconds)
    p50, p95, p99 = (float(np.percentile(found, share)) for share in (50, 95, 99))
    done = max(after[0] - before[0], 1)
    queue, compute = ((after[i] - before[i]) / done / _NS_PER_MS for i in (1, 2))
    return Measurement(
        model=model,
        concurrency=load.concurrency,
        throughput=len(found) / seconds,
        response_throughput=None,
        latency_of="response",
        avg_ms=statistics.fmean(seen.milliseconds),
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        server=ServerTime(queue, compute),
        refused=seen.refused,
    )


def _run(model: str, load: Load, requests: list[list[InferInput]]) -> tuple[_Seen, float]:
    seen, lock = _Seen(), threading.Lock()
    begun = time.monotonic()
    deadline = begun + _WINDOWS * load.interval_ms / 1000

    def work(place: int) -> None:
        with InferenceServerClient(load.url) as client:
            while time.monotonic() < deadline and not seen.failure:
                start, refused = time.perf_counter(), False
                try:
                    client.infer(model, requests[place % len(requests)])
                except InferenceServerException as error:
                    if not is_full(str(error.message())):
                        seen.failure = str(error.message())
                        return
                    refused = True
                took = (time.perf_counter() - start) * 1e3
                with lock:
                    seen.refused += refused
                    seen.milliseconds += [] if refused else [took]
                if refused:
                    time.sleep(_PAUSE)
                place += 1

    threads = [threading.Thread(target=work, args=(i,)) for i in range(load.concurrency)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seen, time.monotonic() - begun


def _server(client: InferenceServerClient, model: str) -> tuple[int, int, int]:
    """Answered requests, and nanoseconds of queue and compute, so far."""
    (one,) = client.get_inference_statistics(model, as_json=True)["model_stats"]
    stats = one.get("inference_stats", {})

    def total(*names: str) -> int:
        return sum(int(stats.get(name, {}).get("ns", 0)) for name in names)

    count = int(stats.get("success", {}).get("count", 0))
    return count, total("queue"), total("compute_input", "compute_infer", "compute_output")


def _inputs(
    item: Mapping[str, Any], types: Mapping[str, str], *, batched: bool
) -> Iterator[InferInput]:
    for name, value in item.items():
        given = value if isinstance(value, dict) else {"content": value}
        dtype = triton_to_np_dtype(types[name])
        if "b64" not in given:
            array = np.array(given["content"], dtype)
        elif types[name] == "BYTES":
            array = np.array(_strings(base64.b64decode(given["b64"])), np.object_)
        else:
            array = np.frombuffer(base64.b64decode(given["b64"]), dtype)
        array = array.reshape(given.get("shape", array.shape))
        array = array[None] if batched else array
        made = InferInput(name, list(array.shape), types[name])
        made.set_data_from_numpy(array)
        yield made


def _strings(data: bytes) -> list[bytes]:
    """Strings with their lengths in front."""
    found = []
    while data:
        size = int.from_bytes(data[:4], "little")
        found.append(data[4 : 4 + size])
        data = data[4 + size :]
    return found
