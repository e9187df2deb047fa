"""The decoder of an encoder-decoder model, one token of every row a step."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ..language.session import SessionSettings, open_session

Values = dict[str, Any]
"""Name -> OrtValue: what a step returns is fed to the next without a copy here."""


@dataclass
class Batch:
    """Rows that are answered together, all of them equally far.

    Attributes:
        mask: int64 [B, S], true tokens of the source; None: the graph has no such input.
        cross: Keys and values of the source.
        past: Keys and values of the answers so far.
    """

    mask: NDArray[np.int64] | None
    cross: Values
    past: Values = field(default_factory=dict)


class CachedDecoder:
    """Runs `cross.onnx` and `decoder.onnx`."""

    def __init__(self, folder: Path, threads: int, device_id: int | None = None) -> None:
        """Load both.

        Args:
            folder: Where they are.
            threads: Of an operator; 0: ONNX Runtime decides.
            device_id: CUDA device; None: the CPU.
        """
        settings = SessionSettings(threads, device_id)
        self._cross, self._decoder = (
            open_session(folder / name, settings, "seq2seq")
            for name in ("cross.onnx", "decoder.onnx")
        )
        self._cross_names = [output.name for output in self._cross.get_outputs()]
        self._outputs = [output.name for output in self._decoder.get_outputs()]
        inputs = {tensor.name: tensor for tensor in self._decoder.get_inputs()}
        self._masked = "encoder_attention_mask" in inputs
        self._empty = {
            name: (int(tensor.shape[1]), int(tensor.shape[3]))
            for name, tensor in inputs.items()
            if name.startswith("past.")
        }

    def start(self, states: NDArray[np.float32], mask: NDArray[np.int64] | None) -> Batch:
        """Take the encoder's states.

        Args:
            states: fp32 [B, S, D].
            mask: int64 [B, S]; None: all of them count.
        """
        values = self._cross.run_with_ort_values(
            self._cross_names, {"encoder_hidden_states": _value(states)}
        )
        batch = Batch(
            mask if self._masked else None, dict(zip(self._cross_names, values, strict=True))
        )
        for name, (heads, width) in self._empty.items():
            batch.past[name] = _value(np.zeros((len(states), heads, 0, width), dtype=np.float32))
        return batch

    def step(self, batch: Batch, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """Append a token to every row.

        Args:
            batch: The rows; their cache grows.
            tokens: int64 [B].

        Returns:
            Logits fp32 [B, V].
        """
        feeds = {"input_ids": _value(tokens[:, None]), **batch.past, **batch.cross}
        if batch.mask is not None:
            feeds["encoder_attention_mask"] = _value(batch.mask)
        logits, *present = self._decoder.run_with_ort_values(self._outputs, feeds)
        names = (name.replace("present", "past") for name in self._outputs[1:])
        batch.past = dict(zip(names, present, strict=True))
        result: NDArray[np.float32] = logits.numpy()
        return result

    def keep(self, batch: Batch, rows: list[int]) -> None:
        """Drop all rows but these."""
        for values in (batch.cross, batch.past):
            for name, value in values.items():
                values[name] = _value(value.numpy()[rows])
        if batch.mask is not None:
            batch.mask = batch.mask[rows]


def _value(array: NDArray[Any]) -> Any:
    return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
