"""The load: so many clients, each sends its next sentence when its last was answered.

    python -m benchmarks.serving.load grpc|http HOST:PORT SENTENCES.json [--vectors OUT.npy]

One process, whatever the protocol; requests are serialized before the clock starts and answers are
parsed after it stopped, so that the load takes as little of the machine as it can. Prints one line
of JSON.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio
import numpy as np
from tritonclient.grpc import service_pb2
from tritonclient.utils import serialize_byte_tensor

CLIENTS = 16
_METHOD = "/inference.GRPCInferenceService/ModelInfer"

Ask = Callable[[bytes], Awaitable[bytes]]


def grpc_request(text: str) -> bytes:
    """A serialized ModelInferRequest."""
    request = service_pb2.ModelInferRequest(model_name="minilm")
    request.inputs.add(name="TEXT", datatype="BYTES", shape=[1, 1])
    raw = serialize_byte_tensor(np.array([[text.encode()]], dtype=np.object_))
    request.raw_input_contents.append(raw.item())
    data: bytes = request.SerializeToString()
    return data


def grpc_vector(answer: bytes) -> Any:
    """The vector of a serialized ModelInferResponse."""
    response = service_pb2.ModelInferResponse.FromString(answer)
    return np.frombuffer(response.raw_output_contents[0], np.float32)


def http_request(text: str) -> bytes:
    """A JSON body."""
    return json.dumps({"text": text}).encode()


def http_vector(answer: bytes) -> Any:
    """The vector of a JSON body."""
    return np.array(json.loads(answer)["embedding"], np.float32)


async def _drive(clients: Sequence[Ask], requests: Sequence[bytes]) -> dict[str, Any]:
    answers: list[bytes] = [b""] * len(requests)
    latencies = [0.0] * len(requests)
    waiting = iter(range(len(requests)))

    async def client(ask: Ask) -> None:
        for place in waiting:
            start = time.perf_counter()
            answers[place] = await ask(requests[place])
            latencies[place] = time.perf_counter() - start

    start, used = time.perf_counter(), time.process_time()
    await asyncio.gather(*(client(ask) for ask in clients))
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - used,
        "median_ms": float(np.median(latencies)) * 1e3,
        "p99_ms": float(np.quantile(latencies, 0.99)) * 1e3,
        "answers": answers,
    }


async def drive_grpc(url: str, requests: Sequence[bytes], clients: int) -> dict[str, Any]:
    """Every client has a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(url, options=options) for _ in range(clients)]
    asks = [channel.unary_unary(_METHOD) for channel in channels]
    for ask in asks:
        await ask(requests[0])
    found = await _drive(asks, requests)
    for channel in channels:
        await channel.close()
    return found


async def drive_http(url: str, requests: Sequence[bytes], clients: int) -> dict[str, Any]:
    """Every client has a connection that is kept alive."""
    connector = aiohttp.TCPConnector(limit=clients, keepalive_timeout=60)
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def ask(body: bytes) -> bytes:
            async with session.post(f"http://{url}/embed", data=body) as response:
                response.raise_for_status()
                return await response.read()

        await asyncio.gather(*(ask(requests[0]) for _ in range(clients)))
        return await _drive([ask] * clients, requests)


def main() -> None:
    """Drive one server once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("protocol", choices=("grpc", "http"))
    parser.add_argument("url")
    parser.add_argument("sentences", type=Path)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--vectors", type=Path)
    arguments = parser.parse_args()
    sentences = json.loads(arguments.sentences.read_text())
    is_grpc = arguments.protocol == "grpc"
    make, read = (grpc_request, grpc_vector) if is_grpc else (http_request, http_vector)
    requests = [make(text) for text in sentences]
    drive = drive_grpc if is_grpc else drive_http
    found = asyncio.run(drive(arguments.url, requests, arguments.clients))
    answers = found.pop("answers")
    if arguments.vectors:
        np.save(arguments.vectors, np.stack([read(answer) for answer in answers]))
    print(json.dumps({**found, "rate": len(requests) / found["seconds"]}))


if __name__ == "__main__":
    main()
