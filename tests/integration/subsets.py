"""Every subset of a model's inputs, sent to a real server: each must be answered, at once."""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc
from tritonclient.utils import serialize_byte_tensor

from builder.serve import TritonServer
from builder.watch.canary import derive_canary, read_canary

_OPTIONS: dict[str, Any] = {
    "MAX_TOKENS": np.array([[2]], np.int32),
    "VISUAL_TOKENS": np.array([[3]], np.int32),
    "TEMPERATURE": np.array([[0]], np.float32),
    "TOP_P": np.array([[1]], np.float32),
    "TOP_K": np.array([[0]], np.int32),
    "SEED": np.array([[1]], np.uint64),
    "STOP": np.array([[b"never"]], np.object_),
    "REPETITION_PENALTY": np.array([[1]], np.float32),
    "LOGPROBS": np.array([[False]], np.bool_),
    "TIMEOUT_MS": np.array([[0]], np.int32),
    "TEXT_PAIR": np.array([[b"another text"]], np.object_),
    "TEMPLATE": np.array([[b"a photo of {}"]], np.object_),
}
_LONGEST = 60.0
"""Seconds until a request counts as never answered."""

_Tensors = dict[str, tuple[Any, bytes]]


def count_answers(
    server: TritonServer, model: str, required: set[str], *, every: bool = True
) -> tuple[int, int]:
    """Send the subsets; how many were answered, and how many were refused for what they lack.

    Args:
        server: It runs.
        model: Of its repository.
        required: Inputs without which there is no answer.
        every: All subsets; False: every subset of `required`, with no option, one, and all.

    Raises:
        AssertionError: a request was not answered, or not as it should be.
    """
    config = server.client.get_model_config(model).config
    tensors = _tensors(server, config)
    subsets = list(_subsets(tensors, required, every=every))
    channel = grpc.insecure_channel(server.grpc_url)
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    with channel, ThreadPoolExecutor(8) as pool:
        errors = list(pool.map(lambda names: _ask(stub, model, names, tensors), subsets))
    for names, error in zip(subsets, errors, strict=True):
        missing = required - set(names)
        if not missing:
            assert error is None, (names, error)
            continue
        assert error is not None, names
        assert any(name in error for name in missing), (names, error)
        assert "Failed to process" not in error, (names, error)  # an exception in a stage
    return errors.count(None), len(errors) - errors.count(None)


def _tensors(server: TritonServer, config: "model_config_pb2.ModelConfig") -> _Tensors:
    sample = read_canary(server.model_repository / config.name, config.name)
    sample = sample or derive_canary(config)
    found = {
        tensor.name: (tensor, data)
        for tensor, data in zip(sample.inputs, sample.raw_input_contents, strict=True)
    }
    for tensor in config.input:
        if tensor.name in found and tensor.name not in _OPTIONS:
            continue
        array = _OPTIONS[tensor.name]
        kind = model_config_pb2.DataType.Name(tensor.data_type).removeprefix("TYPE_")
        entry = service_pb2.ModelInferRequest.InferInputTensor(
            name=tensor.name, datatype="BYTES" if kind == "STRING" else kind, shape=array.shape
        )
        data = serialize_byte_tensor(array).item() if kind == "STRING" else array.tobytes()
        found[tensor.name] = (entry, data)
    return found


def _subsets(tensors: _Tensors, required: set[str], *, every: bool) -> Iterator[tuple[str, ...]]:
    options = sorted(set(tensors) - required)
    sizes = range(len(options) + 1) if every else sorted({0, 1, len(options)})
    for size in range(len(required) + 1):
        for needed in itertools.combinations(sorted(required), size):
            for count in sizes:
                for chosen in itertools.combinations(options, count):
                    yield (*needed, *chosen)


def _ask(stub: Any, model: str, names: tuple[str, ...], tensors: _Tensors) -> str | None:
    request = service_pb2.ModelInferRequest(model_name=model)
    for name in names:
        tensor, data = tensors[name]
        request.inputs.append(tensor)
        request.raw_input_contents.append(data)
    for response in stub.ModelStreamInfer(iter((request,)), timeout=_LONGEST):
        if response.error_message:
            return str(response.error_message)
    return None
