"""Fuzzed requests at a real server, with load and shared-memory calls between them.

    python scripts/fuzz_server.py REPOSITORY [--requests 10000] [--seed 0] [--no-shared-memory]

Says how the requests ended, and whether the server died: with what status, after which calls. A
server that died is started again. Exit status 1 where one died or a request was never answered.
"""

import argparse
import collections
import contextlib
import json
import random
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import text_format
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from builder.serve import TritonServer

_SECONDS = 20.0
"""A request without an answer by then counts as never answered."""
_KINDS = ("BYTES", "BOOL", "INT32", "INT64", "FP16", "FP32", "UINT8", "UINT64", "BF16", "", "X")
_SMALL = (-(2**63), -2, -1, 0, 1, 2, 3, 7, 64, 2**31, 2**40, 2**63 - 1)


class Fuzzer:
    """Makes one random call after the other."""

    def __init__(self, server: TritonServer, names: list[str], seed: int) -> None:
        self.server = server
        self.names = names
        self.random = random.Random(seed)  # noqa: S311 (fuzz)
        self.last = ""
        """The last request for an answer."""
        self.calls: collections.deque[str] = collections.deque(maxlen=5)
        self.connect()

    def connect(self) -> None:
        """To the server that runs now."""
        self.channel = grpc.insecure_channel(self.server.grpc_url)
        self.stub = service_pb2_grpc.GRPCInferenceServiceStub(self.channel)
        configs = self.server.client
        self.inputs: dict[str, list[str]] = {}
        for name in self.names:
            if configs.is_model_ready(name):
                tensors = configs.get_model_config(name).config.input
                self.inputs[name] = [tensor.name for tensor in tensors]

    def step(self) -> str:
        """One call; how it ended."""
        pick = self.random.choices(
            (self.infer, self.stream, self.http, self.load, self.memory, self.ask),
            (35, 20, 20, 3, 17, 5),
        )[0]
        self.calls.append(pick.__name__)
        try:
            return pick()
        except grpc.RpcError as error:
            code = error.code().name if isinstance(error, grpc.Call) else "UNKNOWN"
            if code == "UNAVAILABLE" and "onnect" in str(error.details()):
                return "connection lost"
            return "never answered" if code == "DEADLINE_EXCEEDED" else code
        except TimeoutError:
            return "never answered"
        except urllib.error.HTTPError as error:
            return f"HTTP {error.code}"
        except OSError as error:
            return f"HTTP lost ({getattr(error, 'reason', error)})"

    def bytes(self) -> bytes:
        """Random, short or a few kilobytes."""
        return self.random.randbytes(self.random.choice((0, 1, 3, 4, 8, 100, 4096)))

    def name(self) -> str:
        """A model, mostly."""
        return self.random.choice([*self.names * 4, "", "none", "../preprocess", "a" * 300])

    def request(self) -> Any:
        """Random tensors, often with the right names."""
        pick, model = self.random, self.name()
        request = service_pb2.ModelInferRequest(model_name=model, id=str(pick.random()))
        known = self.inputs.get(model, [])
        for _ in range(pick.choice((0, 1, 1, 2, 2, 3, 12))):
            name = pick.choice([*known, *known, "X", ""])
            shape = [pick.choice(_SMALL) for _ in range(pick.choice((0, 1, 2, 2, 2, 4)))]
            if pick.random() < 0.6:
                shape = [1, 1]
            tensor = request.inputs.add(name=name, datatype=pick.choice(_KINDS), shape=shape)
            if pick.random() < 0.2:
                tensor.parameters["shared_memory_region"].string_param = f"r{pick.randrange(8)}"
                tensor.parameters["shared_memory_byte_size"].int64_param = pick.choice(_SMALL)
                tensor.parameters["shared_memory_offset"].int64_param = pick.choice(_SMALL)
            else:
                request.raw_input_contents.append(self.bytes())
        for _ in range(pick.choice((0, 0, 1, 3))):
            output = request.outputs.add(name=pick.choice(("TEXT", "pixels", "", "X")))
            if pick.random() < 0.3:
                output.parameters["shared_memory_region"].string_param = f"r{pick.randrange(8)}"
                output.parameters["shared_memory_byte_size"].int64_param = pick.choice(_SMALL)
        for name in ("sequence_id", "priority", "timeout", "binary_data", "max_tokens"):
            if pick.random() < 0.1:
                request.parameters[name].int64_param = pick.choice(_SMALL)
        return request

    def infer(self) -> str:
        """Unary."""
        request = self.request()
        self.last = _shown(request)
        self.stub.ModelInfer(request, timeout=_SECONDS)
        return "answered"

    def stream(self) -> str:
        """On a stream of its own."""
        requests = [self.request() for _ in range(self.random.choice((1, 1, 3)))]
        self.last = "; ".join(map(_shown, requests))
        answers = self.stub.ModelStreamInfer(iter(requests), timeout=_SECONDS)
        ends = [answer.error_message for answer in answers]
        return "refused on a stream" if any(ends) else "answered"

    def http(self) -> str:
        """Any path, any body."""
        pick, model = self.random, self.name()
        path = pick.choice(
            (
                f"/v2/models/{model}/infer",
                f"/v2/models/{model}/infer",
                f"/v2/models/{model}/generate",
                f"/v2/models/{model}/generate_stream",
                f"/v2/models/{model}/versions/{pick.choice(_SMALL)}/infer",
                f"/v2/models/{model}/config",
                "/v2/repository/index",
                f"/v2/{model}",
                f"/v2/systemsharedmemory/region/r{pick.randrange(8)}/register",
            )
        )
        tensor = {
            "name": pick.choice([*self.inputs.get(model, []), "X"]),
            "shape": [pick.choice(_SMALL) for _ in range(pick.randrange(4))],
            "datatype": pick.choice(_KINDS),
            "data": pick.choice(([1], ["a"], [], [[1.5]], {"a": 1}, None, 7)),
            "parameters": {"binary_data_size": pick.choice(_SMALL)} if pick.random() < 0.3 else {},
        }
        body = json.dumps({"inputs": [tensor] * pick.choice((0, 1, 2)), "id": 7}).encode()
        body = pick.choice((body, body + self.bytes(), self.bytes(), b"", body[: len(body) // 2]))
        headers = {"Content-Type": "application/json"}
        if pick.random() < 0.3:
            headers["Inference-Header-Content-Length"] = str(pick.choice((*_SMALL, len(body))))
        url = f"http://{self.server.http_url}{urllib.parse.quote(path)}"
        call = urllib.request.Request(
            url, body, headers, method=pick.choice(("POST", "POST", "GET"))
        )
        with urllib.request.urlopen(call, timeout=_SECONDS) as answer:  # noqa: S310
            answer.read()
        return "answered"

    def load(self) -> str:
        """Load or unload, now and then with a config that is none."""
        pick, model = self.random, self.name()
        if pick.random() < 0.4:
            unload = service_pb2.RepositoryModelUnloadRequest(model_name=model)
            unload.parameters["unload_dependents"].bool_param = pick.random() < 0.5
            self.stub.RepositoryModelUnload(unload, timeout=60)
            return "answered"
        load = service_pb2.RepositoryModelLoadRequest(model_name=model)
        if pick.random() < 0.4:
            load.parameters["config"].string_param = pick.choice(("{", "{}", "[]", '{"name": 1}'))
        if pick.random() < 0.2:
            load.parameters["file:1/model.py"].bytes_param = self.bytes()
        self.stub.RepositoryModelLoad(load, timeout=60)
        return "answered"

    def memory(self) -> str:
        """Register and unregister regions, the server's own included."""
        pick, region = self.random, f"r{self.random.randrange(8)}"
        own = [path.name for path in Path("/dev/shm").glob(f"{self.server.shm_prefix}*")]  # noqa: S108
        what = pick.random()
        if what < 0.5:
            key = "/" + pick.choice([*own, "none", "", "a" * 300])
            register = service_pb2.SystemSharedMemoryRegisterRequest(
                name=region,
                key=key,
                offset=pick.choice((0, 0, 64, 2**40)),
                byte_size=pick.choice((0, 1, 4096, 2**20, 2**40, 2**63 - 1)),
            )
            self.stub.SystemSharedMemoryRegister(register, timeout=_SECONDS)
        elif what < 0.8:
            drop = service_pb2.SystemSharedMemoryUnregisterRequest(
                name=pick.choice((region, region, ""))
            )
            self.stub.SystemSharedMemoryUnregister(drop, timeout=_SECONDS)
        else:
            cuda = service_pb2.CudaSharedMemoryRegisterRequest(
                name=region, raw_handle=self.bytes(), device_id=pick.choice((0, 99)), byte_size=64
            )
            self.stub.CudaSharedMemoryRegister(cuda, timeout=_SECONDS)
        return "answered"

    def ask(self) -> str:
        """What a client may ask about the server."""
        calls: list[Callable[[], Any]] = [
            lambda: self.stub.ServerMetadata(service_pb2.ServerMetadataRequest(), timeout=_SECONDS),
            lambda: self.stub.ModelConfig(
                service_pb2.ModelConfigRequest(name=self.name(), version=str(self.random.random())),
                timeout=_SECONDS,
            ),
            lambda: self.stub.ModelStatistics(
                service_pb2.ModelStatisticsRequest(name=self.name()), timeout=_SECONDS
            ),
            lambda: self.stub.SystemSharedMemoryStatus(
                service_pb2.SystemSharedMemoryStatusRequest(), timeout=_SECONDS
            ),
        ]
        self.random.choice(calls)()
        return "answered"


def _shown(request: Any) -> str:
    text = " ".join(text_format.MessageToString(request, as_one_line=True).split())
    return text[:1500]


def alive(server: TritonServer) -> bool:
    """Whether it runs and says so."""
    for _ in range(3):
        if not server.running:
            return False
        with contextlib.suppress(InferenceServerException):
            if server.client.is_server_live(client_timeout=10.0):
                return True
        time.sleep(0.5)
    return False


def main() -> int:
    """Fuzz, and say what happened."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("repository", type=Path)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-shared-memory", action="store_true", help="as `builder serve` does")
    arguments = parser.parse_args()
    names = sorted(path.parent.name for path in arguments.repository.glob("*/config.pbtxt"))
    ends: collections.Counter[str] = collections.Counter()
    deaths: list[dict[str, Any]] = []
    unanswered: list[str] = []
    start = time.monotonic()
    server = TritonServer(
        arguments.repository,
        load=names,
        client_shared_memory=not arguments.no_shared_memory,
    )
    with server:
        fuzzer = Fuzzer(server, names, arguments.seed)
        for number in range(arguments.requests):
            end = fuzzer.step()
            ends[end] += 1
            if end == "never answered":
                unanswered.append(fuzzer.last)
            if not alive(server):
                deaths.append(
                    {
                        "request": number,
                        "status": server.wait() if not server.running else "hangs",
                        "calls": list(fuzzer.calls),
                        "last": fuzzer.last,
                        "log": server.log_text()[-600:],
                    }
                )
                server.stop()
                server.start()
                fuzzer.connect()
    result = {
        "requests": arguments.requests,
        "seed": arguments.seed,
        "seconds": round(time.monotonic() - start),
        "ends": dict(ends.most_common()),
        "unanswered": unanswered,
        "deaths": deaths,
    }
    print(json.dumps(result, indent=2))
    return 1 if deaths or ends["never answered"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
