"""The ONNX decoder over a preallocated KV cache: one slot a sequence, no copy a step."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

_FIRST_KEY = "past_key_values.0.key"


@dataclass(frozen=True)
class SessionSettings:
    """How ONNX Runtime runs the decoder.

    Attributes:
        intra_op_threads: Threads within an operator; 0 leaves it to ONNX Runtime.
        device_id: CUDA device, or None for the CPU.
    """

    intra_op_threads: int = 0
    device_id: int | None = None


class Decoder:
    """Runs prefill and decode steps; past and present share their buffers.

    The cache has `slots` rows of `max_length` tokens. A step works on a run of neighbouring rows,
    bound in place by address.
    """

    def __init__(self, model: Path, slots: int, max_length: int, settings: SessionSettings) -> None:
        """Load `model` and allocate the cache."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = settings.intra_op_threads
        # Spinning threads would take the cores from the stages that run beside this one.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers: list[str | tuple[str, dict[str, str]]] = ["CPUExecutionProvider"]
        self._device = ("cpu", 0)
        if settings.device_id is not None:
            if "CUDAExecutionProvider" not in ort.get_available_providers():
                raise RuntimeError(
                    "the language stage is configured for a GPU but onnxruntime has no "
                    "CUDAExecutionProvider; install onnxruntime-gpu"
                )
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": str(settings.device_id)}))
            self._device = ("cuda", settings.device_id)
        self._session = ort.InferenceSession(str(model), options, providers=providers)
        inputs = {tensor.name: tensor for tensor in self._session.get_inputs()}
        cache = inputs[_FIRST_KEY]
        _, kv_heads, _, head_dim = cache.shape
        self._dtype = np.dtype(np.float16 if "float16" in cache.type else np.float32)
        self._row_shape = (int(kv_heads), max_length, int(head_dim))
        self._row_bytes = int(np.prod(self._row_shape)) * self._dtype.itemsize
        self._embeds_dtype = np.dtype(
            np.float16 if "float16" in inputs["visual_embeds"].type else np.float32
        )
        self._cache_names = [name for name in inputs if name.startswith("past_key_values.")]
        self._cache = {
            name: ort.OrtValue.ortvalue_from_numpy(
                np.zeros((slots, *self._row_shape), dtype=self._dtype), *self._device
            )
            for name in self._cache_names
        }
        self.hidden_size = int(inputs["visual_embeds"].shape[2])
        self.vocab_size = int(self._session.get_outputs()[0].shape[1])
        self.slots = slots
        self.max_length = max_length

    def _bind_cache(self, binding: ort.IOBinding, row: int, rows: int) -> None:
        for name, value in self._cache.items():
            pointer = value.data_ptr() + row * self._row_bytes
            shape = (rows, *self._row_shape)
            place = (*self._device, self._dtype.type, shape, pointer)
            binding.bind_input(name, *place)
            binding.bind_output(name.replace("past_key_values", "present"), *place)

    def step(
        self,
        row: int,
        input_ids: NDArray[np.int64],
        position_ids: NDArray[np.int64],
        lengths: NDArray[np.int32],
        visual: tuple[NDArray[np.bool_], NDArray[np.float32]] | None = None,
    ) -> NDArray[np.float32]:
        """Append S tokens to each of the rows `row` to `row + B`.

        Args:
            row: First row of the cache.
            input_ids: int64 [B, S].
            position_ids: int64 [B, 3, S], M-RoPE positions.
            lengths: int32 [B], tokens of each row after this step.
            visual: Mask bool [B, S] and embeddings [B, S, D]; None where all tokens are text.

        Returns:
            Logits fp32 [B, V] of the last token.
        """
        batch, length = input_ids.shape
        if visual is None:
            mask = np.zeros((batch, length), dtype=np.bool_)
            embeds = np.zeros((batch, length, self.hidden_size), dtype=self._embeds_dtype)
        else:
            mask, embeds = visual[0], visual[1].astype(self._embeds_dtype, copy=False)
        binding = self._session.io_binding()
        feeds = {
            "input_ids": input_ids,
            "visual_embeds": embeds,
            "visual_mask": mask,
            "position_ids": position_ids,
            "last_index": np.full(batch, length - 1, dtype=np.int64),
            "seqlens_k": (lengths - 1).astype(np.int32),
            "total_sequence_length": np.array(lengths.max(), dtype=np.int32),
        }
        for name, array in feeds.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(array))
        binding.bind_output("logits", "cpu")  # first: outputs come in the order of binding
        self._bind_cache(binding, row, batch)
        self._session.run_with_iobinding(binding)
        # Not copy_outputs_to_cpu: that would fetch the cache too.
        logits: NDArray[np.float32] = binding.get_outputs()[0].numpy()
        return logits

    @property
    def can_move(self) -> bool:
        """Whether rows can be moved (their memory is addressable from here)."""
        return self._device[0] == "cpu"

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` tokens of one row to another."""
        for value in self._cache.values():
            rows = value.numpy()
            rows[target, :, :length] = rows[source, :, :length]
