"""Request data for perf_analyzer, as its JSON input format wants it.

https://github.com/triton-inference-server/perf_analyzer (docs/input_data.md). Tensors go in as
base64 of their bytes; a STRING element then needs its length in front, 4 bytes little-endian.
"""

import base64
import io
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from builder.errors import ToolError

DEFAULT_QUESTION = "What is in this picture?"
DEFAULT_MAX_TOKENS = 32

_ITEMS = 8  # different requests in turn, so that a response cache does not answer them all
_TOKENS = 16
_TOKEN_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}
_FLOATS = {"TYPE_FP16": np.float16, "TYPE_FP32": np.float32, "TYPE_FP64": np.float64}
_INTEGERS = {
    f"TYPE_{sign}INT{bits}": np.dtype(f"{sign.lower()}int{bits}")
    for sign in ("", "U")
    for bits in (8, 16, 32, 64)
}


def takes_picture(config: Mapping[str, Any]) -> bool:
    """Whether a model's inputs are those of the arr_coc ensemble: IMAGE and PROMPT."""
    return {"IMAGE", "PROMPT"} <= {io["name"] for io in config.get("input", ())}


def picture_data(image: Path | None, question: str, max_tokens: int) -> dict[str, Any]:
    """Requests about one picture; without a file, about one that is drawn here.

    Raises `ToolError` when `image` is no readable picture.
    """
    content = picture(image)
    # With its shape: where a request may have several pictures, the dim of IMAGE is free.
    pictures = {**_strings(content), "shape": [1]}
    item = {"IMAGE": pictures, "PROMPT": [question], "MAX_TOKENS": [max_tokens]}
    return {"data": [item]}


def picture(image: Path | None) -> bytes:
    """An encoded picture: the file's, or one that is drawn here.

    Raises `ToolError` when `image` is no readable picture.
    """
    if image is None:
        return _drawn_picture()
    try:
        content = image.read_bytes()
        with Image.open(io.BytesIO(content)) as opened:
            opened.verify()
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise ToolError(f"--image {image} is not a readable picture: {error}") from error
    return content


def prompt_data(prompt: str, max_tokens: int) -> dict[str, Any]:
    """A request to a model that goes on with a text."""
    return {"data": [{"PROMPT": [prompt], "MAX_TOKENS": [max_tokens]}]}


def model_data(
    config: Mapping[str, Any],
    shapes: Mapping[str, list[int]],
    strings: Mapping[str, bytes] | None = None,
) -> dict[str, Any]:
    """Plausible requests for any model, from its config (JSON of the gRPC API).

    Masks are ones, types zeros, lengths as long as they may be, other integers small (ids that
    any vocabulary has); 8-bit unsigned integers are pixels. Optional inputs are left out. A graph
    of token ids and their mask is asked with rows of 16 tokens unless `shapes` says more;
    `strings` has what every element of a STRING input is.

    Raises `ToolError` for an input whose dims vary and that `shapes` does not name.
    """
    rng = np.random.default_rng(0)
    inputs = [io for io in config.get("input", ()) if not io.get("optional")]
    unknown = set(shapes) - {io["name"] for io in inputs}
    if unknown:
        raise ToolError(f"model '{config['name']}' has no input {', '.join(sorted(unknown))}")
    shapes = {**_token_shapes(inputs), **shapes}
    dims = {io["name"]: _dims(config["name"], io, shapes) for io in inputs}
    items = [
        {io["name"]: _tensor(rng, io, dims, strings or {}) for io in inputs} for _ in range(_ITEMS)
    ]
    return {"data": items}


def write(data: Mapping[str, Any], path: Path) -> str:
    """Write `data` for `--input-data`; the path."""
    path.write_text(json.dumps(data))
    return str(path)


def parse_shapes(options: list[str]) -> dict[str, list[int]]:
    """`NAME:D1,D2` options; raises `ToolError` for others."""
    shapes = {}
    for option in options:
        name, _, dims = option.rpartition(":")
        try:
            shapes[name] = [int(dim) for dim in dims.split(",")]
        except ValueError:
            shapes[name] = []
        if not name or not shapes[name] or min(shapes[name]) < 1:
            raise ToolError(f"--shape {option} is not NAME:D1,D2 with whole numbers from 1")
    return shapes


def _token_shapes(tensors: list[Mapping[str, Any]]) -> dict[str, list[int]]:
    """Dims for the inputs of a graph of token ids, whose length is free."""
    if not {"input_ids", "attention_mask"} <= {io["name"] for io in tensors}:
        return {}
    shapes = {io["name"]: [int(dim) for dim in io["dims"]] for io in tensors}
    return {
        name: [1] * (len(dims) - 1) + [_TOKENS]
        for name, dims in shapes.items()
        if name in _TOKEN_INPUTS and set(dims) == {-1}
    }


def _dims(model: str, tensor: Mapping[str, Any], shapes: Mapping[str, list[int]]) -> list[int]:
    name = tensor["name"]
    dims = [int(dim) for dim in tensor["dims"]]
    given = shapes.get(name)
    if given is not None:
        fits = len(given) == len(dims) and all(
            dim in {-1, ours} for dim, ours in zip(dims, given, strict=True)
        )
        if not fits:
            raise ToolError(f"--shape of input '{name}' of model '{model}' must fit {dims}")
        return given
    if -1 in dims:
        raise ToolError(
            f"input '{name}' of model '{model}' has dims {dims}: say which with "
            f"--shape {name}:{','.join('N' if dim == -1 else str(dim) for dim in dims)} "
            "or give --input-data"
        )
    return dims


def _tensor(
    rng: np.random.Generator,
    tensor: Mapping[str, Any],
    dims: Mapping[str, list[int]],
    strings: Mapping[str, bytes],
) -> dict[str, Any]:
    shape, data_type = dims[tensor["name"]], tensor["data_type"]
    if data_type == "TYPE_STRING":
        text = strings.get(tensor["name"], b"one two three")
        return {**_strings(*[text] * int(np.prod(shape))), "shape": shape}
    array: NDArray[Any]
    if data_type in _FLOATS:
        array = rng.standard_normal(shape).astype(_FLOATS[data_type])
    elif data_type == "TYPE_BOOL":
        array = np.ones(shape, np.bool_)
    elif data_type in _INTEGERS:
        array = _integers(rng, tensor["name"], dims).astype(_INTEGERS[data_type])
    else:
        raise ToolError(
            f"no data can be made for input '{tensor['name']}' of {data_type}: give --input-data"
        )
    return {"b64": base64.b64encode(array.tobytes()).decode(), "shape": shape}


def _integers(rng: np.random.Generator, name: str, dims: Mapping[str, list[int]]) -> NDArray[Any]:
    shape, lower = dims[name], name.lower()
    if "mask" in lower:
        return np.ones(shape, np.int64)
    if "type" in lower:
        return np.zeros(shape, np.int64)
    if "position" in lower:
        return np.broadcast_to(np.arange(shape[-1]), shape)
    if lower.endswith(("length", "lengths")):
        # The length of the ids that it belongs to: query_length of query_ids.
        prefix = lower.rsplit("length", 1)[0]
        mates = [size[-1] for other, size in dims.items() if other.lower() == f"{prefix}ids"]
        return np.full(shape, mates[0] if mates else 1)
    return rng.integers(1, 10, shape) if "id" in lower else rng.integers(0, 256, shape)


def _strings(*items: bytes) -> dict[str, Any]:
    packed = b"".join(struct.pack("<I", len(item)) + item for item in items)
    return {"b64": base64.b64encode(packed).decode()}


def _drawn_picture() -> bytes:
    ramp = (np.arange(448) % 256).astype(np.uint8)
    pixels = np.stack([np.tile(ramp, (448, 1)), np.tile(ramp[:, None], (1, 448))], axis=-1)
    pixels = np.concatenate([pixels, pixels[..., :1] ^ pixels[..., 1:]], axis=-1)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()
