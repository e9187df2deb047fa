"""Triton Python model: token logits in, entities with their characters out."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from tokenizers import Tokenizer

from ..common.settings import read_settings
from .aggregate import Aggregator, Entity
from .entities_settings import EntitiesSettings


class TritonPythonModel:
    """Finds entities; rows of one request are filled up to the row with the most of them."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the settings from the model config's parameters."""
        config = json.loads(args["model_config"])
        settings = read_settings(EntitiesSettings, config)
        folder = Path(args["model_repository"]) / args["model_version"]
        self._aggregator = Aggregator(
            Tokenizer.from_file(str(folder / "tokenizer.json")),
            settings.labels,
            settings.aggregation,
            settings.ignored_labels,
            settings.unk_token_id,
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        names = ("TEXT", "input_ids", "offsets", "logits")
        texts, ids, offsets, logits = (
            pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in names
        )
        rows = [
            self._aggregator.entities(text.decode("utf-8"), *row)
            for text, *row in zip(texts.reshape(-1), ids, offsets, logits, strict=True)
        ]
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, value) for name, value in tensors(rows).items()]
        )


def tensors(rows: Sequence[Sequence[Entity]]) -> dict[str, Any]:
    """Entities [B, E], E that of the row with the most; COUNT [B, 1] says how many are a row's."""
    most = max(map(len, rows), default=0)
    shape = (len(rows), most)
    found: dict[str, Any] = {
        "COUNT": np.array([[len(row)] for row in rows], dtype=np.int32),
        "ENTITIES": np.full(shape, b"", dtype=object),
        "WORDS": np.full(shape, b"", dtype=object),
        "SCORES": np.zeros(shape, dtype=np.float32),
        "STARTS": np.zeros(shape, dtype=np.int32),
        "ENDS": np.zeros(shape, dtype=np.int32),
    }
    for index, row in enumerate(rows):
        for place, entity in enumerate(row):
            found["ENTITIES"][index, place] = entity.label.encode()
            found["WORDS"][index, place] = entity.word.encode()
            found["SCORES"][index, place] = entity.score
            found["STARTS"][index, place] = entity.start
            found["ENDS"][index, place] = entity.end
    return found
