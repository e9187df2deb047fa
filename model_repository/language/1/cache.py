"""The KV cache: rows that look contiguous to the kernel, memory that is taken block by block.

GroupQueryAttention wants each sequence's keys and values contiguous, so blocks can't be scattered
through a table as in PagedAttention. The page table of the processor does it instead (as vAttention
does with CUDA's virtual memory, arXiv:2405.04437): every row has addresses for its full length, a
block of tokens is a whole number of pages, and a page takes memory only once it is written to and
until its row is released. On a GPU the rows are allocated whole, and blocks only limit admission.
"""

import mmap
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

_MIN_BLOCK_TOKENS = 16


class CacheFullError(RuntimeError):
    """No block is free."""


class KvCache:
    """Key and value buffers of every layer, [rows, kv heads, length, d] each."""

    def __init__(
        self,
        names: list[str],
        rows: int,
        max_length: int,
        heads: tuple[int, int],
        dtype: np.dtype[Any],
        *,
        total_tokens: int | None = None,
        device: tuple[str, int] = ("cpu", 0),
        copier: Any = None,
    ) -> None:
        """Reserve the addresses.

        Args:
            names: One for each buffer.
            rows: Sequences that have addresses.
            max_length: Tokens of a row; rounded up to whole blocks.
            heads: Number of key-value heads and their width.
            dtype: Of keys and values.
            total_tokens: Tokens that may be held in all rows together; None: all rows full.
            device: "cpu" or "cuda" and its number.
            copier: A session of `row_copy.onnx`, for memory that can't be reached from here.
        """
        token_bytes = heads[1] * dtype.itemsize
        self.block_tokens = max(_MIN_BLOCK_TOKENS, -(-mmap.PAGESIZE // token_bytes))
        while self.block_tokens * token_bytes % mmap.PAGESIZE:
            self.block_tokens += 1
        self.max_length = self.blocks_for(max_length) * self.block_tokens
        self.row_shape = (heads[0], self.max_length, heads[1])
        self.row_bytes = heads[0] * self.max_length * token_bytes
        self.names = names
        self.dtype = dtype
        self._device = device
        self._copier = copier
        self.total_blocks = self.blocks_for(total_tokens or rows * self.max_length)
        self._blocks = [0] * rows
        self._strip = self.max_length * token_bytes
        self._buffer_bytes = rows * self.row_bytes
        self._values: list[Any] = []
        self._arrays: list[NDArray[Any]] = []
        if device[0] == "cpu":
            self._memory = mmap.mmap(
                -1, len(names) * self._buffer_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
            )
            if hasattr(mmap, "MADV_NOHUGEPAGE"):  # a huge page would take many blocks at once
                self._memory.madvise(mmap.MADV_NOHUGEPAGE)
            whole = np.frombuffer(self._memory, dtype=dtype)
            self._arrays = list(whole.reshape(len(names), rows, *self.row_shape))
            self._addresses = [array.ctypes.data for array in self._arrays]
        else:
            shape = (rows, *self.row_shape)
            self._values = [
                ort.OrtValue.ortvalue_from_shape_and_type(shape, dtype.type, *device) for _ in names
            ]
            self._addresses = [value.data_ptr() for value in self._values]

    def blocks_for(self, tokens: int) -> int:
        """Blocks that hold a number of tokens."""
        return -(-tokens // self.block_tokens)

    @property
    def used_blocks(self) -> int:
        """Blocks that rows hold."""
        return sum(self._blocks)

    def address(self, buffer: int, row: int) -> int:
        """Where a row of a buffer begins."""
        return int(self._addresses[buffer]) + row * self.row_bytes

    def reserve(self, row: int, tokens: int) -> bool:
        """Let a row hold this many tokens; False, and nothing changed, where no block is free."""
        missing = self.blocks_for(tokens) - self._blocks[row]
        if missing > self.total_blocks - self.used_blocks:
            return False
        self._blocks[row] += max(missing, 0)
        return True

    def release(self, row: int) -> None:
        """Give a row's blocks back; on the CPU their memory goes back to the system."""
        if self._arrays and self._blocks[row]:
            size = min(self._blocks[row] * self._strip_block, self._strip)
            for buffer in range(len(self.names)):
                for head in range(self.row_shape[0]):
                    start = buffer * self._buffer_bytes + row * self.row_bytes + head * self._strip
                    self._memory.madvise(mmap.MADV_DONTNEED, start, size)
        self._blocks[row] = 0

    @property
    def _strip_block(self) -> int:
        return self.block_tokens * self.row_shape[2] * self.dtype.itemsize

    def copy(self, source: int, target: int, tokens: int) -> None:
        """Copy the first tokens of a row to another, which takes the blocks for them.

        Raises:
            CacheFullError: it can't.
        """
        if not self.reserve(target, tokens):
            raise CacheFullError("no block of the KV cache is free")
        self._copy_row(source, target, tokens)

    def move(self, source: int, target: int, tokens: int) -> None:
        """Move a row into an empty one; the number of blocks stays."""
        self._copy_row(source, target, tokens)
        blocks = self._blocks[source]
        self.release(source)
        self._blocks[target] = blocks

    def _copy_row(self, source: int, target: int, tokens: int) -> None:
        if self._copier is None:
            for rows in self._arrays:
                rows[target, :, :tokens] = rows[source, :, :tokens]
            return
        binding = self._copier.io_binding()
        for buffer in range(len(self.names)):
            place = (*self._device, self.dtype.type, self.row_shape)
            binding.bind_input("source", *place, self.address(buffer, source))
            binding.bind_output("target", *place, self.address(buffer, target))
            self._copier.run_with_iobinding(binding)
