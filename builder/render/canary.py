"""The request that a served model is asked now and then: `<model>/canary.json`.

A watched server (`builder/watch`) sends it to see whether the model answers. Models without one
are asked with zeros, which graphs take and stages that decode pictures or read text do not.
"""

import base64
import io
import json
import math
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from PIL import Image

from builder.render.model_config import ModelConfig, Tensor

CANARY_NAME = "canary.json"

_SENTENCE = "Triton joins requests into batches."
_QUESTION = "What is in the picture?"
_TONE = [round(0.5 * math.sin(2 * math.pi * 440 * i / 16_000), 4) for i in range(1600)]
"""A tenth of a second."""
_TEXTS: Final = {
    "PROMPT": [_QUESTION],
    "TEXT": [_SENTENCE],
    "QUESTION": ["What does Triton join?"],
    "CONTEXT": [_SENTENCE],
    "LABELS": ["a cat", "a dog"],
    "text_input": [_QUESTION],
    "sampling_parameters": ['{"max_tokens": 1}'],
}
"""Input -> texts that stand for it, wherever it is a string."""


def write_canaries(configs: Collection[ModelConfig], folder: Path) -> None:
    """Write the canaries of the models that clients call.

    Args:
        configs: Every model of a repository.
        folder: The repository, with the folders of the models.
    """
    inner = {step.model_name for config in configs for step in config.steps}
    # Of a masked language model: a text without a mask is refused.
    masks = [c.parameters["mask_token"] for c in configs if "mask_token" in c.parameters]
    for config in configs:
        canary = None if config.name in inner else _canary(config, masks[0] if masks else "")
        if canary is not None:
            text = json.dumps(canary, indent=2, ensure_ascii=False)
            (folder / config.name / CANARY_NAME).write_text(text + "\n")


def _canary(config: ModelConfig, mask: str) -> dict[str, Any] | None:
    """A request in the JSON of the Open Inference Protocol; None where an input is unknown."""
    batch = [1] if config.max_batch_size else []
    inputs = []
    for tensor in config.inputs:
        found = _sample(tensor, mask)
        if found is not None:
            inputs.append({**found, "shape": [*batch, *_shape(tensor, len(found["data"]))]})
        elif not tensor.optional:
            return None
    return {"inputs": inputs} if inputs else None


def _shape(tensor: Tensor, count: int) -> list[int]:
    return [count if dim == -1 else dim for dim in tensor.dims]


def _sample(tensor: Tensor, mask: str) -> dict[str, Any] | None:
    name, kind = tensor.name, tensor.data_type
    entry: dict[str, Any] = {"name": name, "datatype": "BYTES" if kind == "STRING" else kind}
    if kind == "STRING" and name == "IMAGE":
        data = base64.b64encode(_picture()).decode()
        return {**entry, "data": [data], "parameters": {"content_type": "base64"}}
    if kind == "STRING" and name in _TEXTS:
        texts = [f"{_SENTENCE} {mask}."] if mask and name == "TEXT" else _TEXTS[name]
        return {**entry, "data": texts}
    if name == "AUDIO" and kind == "FP32":
        return {**entry, "data": _TONE}
    if name == "MAX_TOKENS" and kind == "INT32":
        return {**entry, "data": [1]}
    return None


def _picture() -> bytes:
    """A gradient of 32 x 32 pixels, as PNG."""
    picture = Image.new("RGB", (32, 32))
    picture.putdata([(8 * x, 8 * y, 128) for y in range(32) for x in range(32)])
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
