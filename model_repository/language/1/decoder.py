"""The ONNX decoder over a preallocated KV cache: nothing is copied or allocated a step."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from .cache import KvCache
from .session import SessionSettings, open_session

_FIRST_KEY = "past_key_values.0.key"


class Decoder:
    """Runs prefill, decode and verification steps; past and present share their buffers.

    A step works on a run of neighbouring rows of the cache, bound in place by address. One session
    serves every kind of step, so there is one copy of the weights.
    """

    def __init__(
        self,
        model: Path,
        rows: int,
        max_length: int,
        settings: SessionSettings,
        total_tokens: int | None = None,
    ) -> None:
        """Load `model` and reserve the cache.

        Args:
            model: The ONNX file.
            rows: Sequences in the cache.
            max_length: Tokens of each.
            settings: Of the session.
            total_tokens: Tokens of all of them together; None: no limit but the rows'.
        """
        cuda = settings.device_id
        self._device = ("cpu", 0) if cuda is None else ("cuda", cuda)
        self._session = open_session(model, settings, "language")
        inputs = {tensor.name: tensor for tensor in self._session.get_inputs()}
        first = inputs[_FIRST_KEY]
        _, kv_heads, _, head_dim = first.shape
        self._embeds: Any = inputs.get("visual_embeds")
        """None: a model of text alone, whose positions have one dim."""
        self.cache = KvCache(
            [name for name in inputs if name.startswith("past_key_values.")],
            rows,
            max_length,
            (int(kv_heads), int(head_dim)),
            np.dtype(np.float16 if "float16" in first.type else np.float32),
            total_tokens=total_tokens,
            device=self._device,
            copier=self._copier(model) if self._device[0] != "cpu" else None,
        )
        self.hidden_size = int(self._embeds.shape[2]) if self._embeds else 0
        self._embeds_dtype = self.cache.dtype
        self.vocab_size = int(self._session.get_outputs()[0].shape[2])
        self._bindings: dict[tuple[int, int], Any] = {}
        self._no_visual: dict[tuple[int, int], tuple[NDArray[Any], NDArray[Any]]] = {}
        self._logits = np.empty(0, dtype=np.float32)

    def _copier(self, model: Path) -> Any:
        """A session that copies a row of the cache on the device."""
        providers = [("CUDAExecutionProvider", {"device_id": str(self._device[1])})]
        return ort.InferenceSession(str(model.with_name("row_copy.onnx")), providers=providers)

    def _binding(self, row: int, rows: int) -> Any:
        """A binding with the cache in place, kept for the next step on the same rows."""
        binding = self._bindings.get((row, rows))
        if binding is None:
            binding = self._session.io_binding()
            cache = self.cache
            for i, name in enumerate(cache.names):
                shape = (rows, *cache.row_shape)
                place = (*self._device, cache.dtype.type, shape, cache.address(i, row))
                binding.bind_input(name, *place)
                binding.bind_output(name.replace("past_key_values", "present"), *place)
            self._bindings[row, rows] = binding
        return binding

    def _text_only(self, batch: int, length: int) -> tuple[NDArray[Any], NDArray[Any]]:
        key = (batch, length)
        if key not in self._no_visual:
            embeds = np.zeros((batch, length, self.hidden_size), dtype=self._embeds_dtype)
            found = np.zeros(key, dtype=np.bool_), embeds
            if length > 1:  # prompts come in many lengths
                return found
            self._no_visual[key] = found
        return self._no_visual[key]

    def step(
        self,
        row: int,
        input_ids: NDArray[np.int64],
        position_ids: NDArray[np.int64],
        lengths: NDArray[np.int32],
        visual: tuple[NDArray[np.bool_], NDArray[np.float32]] | None = None,
        wanted: int = 1,
    ) -> NDArray[np.float32]:
        """Append S tokens to each of the rows `row` to `row + B`.

        Args:
            row: First row of the cache.
            input_ids: int64 [B, S].
            position_ids: int64 [B, 3, S], M-RoPE positions.
            lengths: int32 [B], tokens of each row after this step.
            visual: Mask bool [B, S] and embeddings [B, S, D]; None where all tokens are text.
            wanted: N, the number of last places whose logits are wanted.

        Returns:
            Logits fp32 [B, N, V], valid until the next step.
        """
        batch, length = input_ids.shape
        index = np.arange(length - wanted, length, dtype=np.int64)
        feeds = {
            "input_ids": input_ids,
            "position_ids": position_ids if self._embeds else position_ids[:, 0],
            "logits_index": np.broadcast_to(index, (batch, wanted)),
            "seqlens_k": (lengths - 1).astype(np.int32),
            "total_sequence_length": np.array(lengths.max(), dtype=np.int32),
        }
        if self._embeds:
            mask, embeds = self._text_only(batch, length) if visual is None else visual
            feeds["visual_mask"] = mask
            feeds["visual_embeds"] = embeds.astype(self._embeds_dtype, copy=False)
        binding = self._binding(row, batch)
        held = {name: np.ascontiguousarray(array) for name, array in feeds.items()}
        for name, array in held.items():
            binding.bind_cpu_input(name, array)
        size = batch * wanted * self.vocab_size
        if self._logits.size < size:
            self._logits = np.empty(size, dtype=np.float32)
        logits = self._logits[:size].reshape(batch, wanted, self.vocab_size)
        binding.bind_output("logits", "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
        self._session.run_with_iobinding(binding)
        return logits
