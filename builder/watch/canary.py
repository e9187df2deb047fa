"""Canaries: the request that a model is asked now and then, to see whether it answers.

`<model>/canary.json` in the repository is one in the JSON of the Open Inference Protocol (the body
of `POST /v2/models/NAME/infer`); bytes that are no text are base64 there, and say so:

    {"inputs": [{"name": "IMAGE", "datatype": "BYTES", "shape": [1, 1], "data": ["iVBORw0..."],
                 "parameters": {"content_type": "base64"}}]}

A model without one is asked with what its config allows: zeros and empty strings, 1 for every free
dim, optional inputs left out.
"""

import base64
import json
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tritonclient.grpc import model_config_pb2, service_pb2

CANARY_NAME = "canary.json"

_CODES = {
    "BOOL": "?",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}
"""Data type of the protocol -> code of `struct`."""
_SIZES = {**{name: struct.calcsize(f"<{code}") for name, code in _CODES.items()}, "BF16": 2}


class CanaryError(ValueError):
    """A `canary.json` can't be sent; the message says what is wrong."""


def read_canary(model_folder: Path, model: str) -> "service_pb2.ModelInferRequest | None":
    """The request of `<model>/canary.json`; None where there is none.

    Raises:
        CanaryError: the file is no request.
    """
    path = model_folder / CANARY_NAME
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise CanaryError(f"{path} can't be read: {error}") from error
    try:
        tensors = json.loads(text)["inputs"]
        return _request(model, [_tensor(tensor) for tensor in tensors])
    except (KeyError, TypeError, ValueError, struct.error) as error:
        raise CanaryError(
            f"{path} is no request of the Open Inference Protocol: {error}"
        ) from error


def derive_canary(config: "model_config_pb2.ModelConfig") -> "service_pb2.ModelInferRequest":
    """A request that a config allows: zeros and empty strings in the smallest shape."""
    batch = [1] if config.max_batch_size > 0 else []
    tensors = []
    for tensor in config.input:
        if tensor.optional:
            continue
        kind = model_config_pb2.DataType.Name(tensor.data_type).removeprefix("TYPE_")
        shape = [*batch, *(max(dim, 1) for dim in tensor.dims)]
        count = _count(shape)
        data = b"\0\0\0\0" * count if kind == "STRING" else bytes(_SIZES.get(kind, 4) * count)
        tensors.append((tensor.name, "BYTES" if kind == "STRING" else kind, shape, data))
    return _request(config.name, tensors)


def _request(
    model: str, tensors: "Iterable[tuple[str, str, list[int], bytes]]"
) -> "service_pb2.ModelInferRequest":
    request = service_pb2.ModelInferRequest(model_name=model, id=f"canary-{model}")
    for name, kind, shape, data in tensors:
        request.inputs.add(name=name, datatype=kind, shape=shape)
        request.raw_input_contents.append(data)
    return request


def _tensor(tensor: "dict[str, Any]") -> "tuple[str, str, list[int], bytes]":
    kind, shape = str(tensor["datatype"]), [int(dim) for dim in tensor["shape"]]
    values = _flat(tensor["data"])
    if len(values) != _count(shape):
        raise ValueError(f"{tensor['name']} has {len(values)} elements in the shape {shape}")
    if kind == "BYTES":
        coded = tensor.get("parameters", {}).get("content_type") == "base64"
        texts = [base64.b64decode(v, validate=True) if coded else v.encode() for v in values]
        data = b"".join(struct.pack("<I", len(text)) + text for text in texts)
    elif kind in _CODES:
        data = struct.pack(f"<{len(values)}{_CODES[kind]}", *values)
    else:
        raise ValueError(f"{tensor['name']} is of the type {kind}, which JSON can't hold")
    return str(tensor["name"]), kind, shape, data


def _flat(values: Any) -> "list[Any]":
    return (
        [leaf for value in values for leaf in _flat(value)]
        if isinstance(values, list)
        else [values]
    )


def _count(shape: "list[int]") -> int:
    count = 1
    for dim in shape:
        count *= dim
    return count
