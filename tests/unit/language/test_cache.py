"""The KV cache: blocks add up, rows keep their content, memory comes and goes."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.runtime.models.language.cache import CacheFullError, KvCache


def make(rows: int = 4, length: int = 256, total: int | None = None) -> KvCache:
    return KvCache(["k", "v"], rows, length, (2, 64), np.dtype(np.float32), total_tokens=total)


def test_a_block_is_whole_pages_and_a_row_whole_blocks() -> None:
    cache = make(length=250)
    assert cache.block_tokens == 16
    assert cache.max_length == 256
    assert cache.address(0, 0) % 4096 == 0
    half = KvCache(["k"], 1, 100, (1, 64), np.dtype(np.float16))
    assert half.block_tokens == 32
    odd = KvCache(["k"], 1, 100, (1, 24), np.dtype(np.float32))
    assert odd.block_tokens * 24 * 4 % 4096 == 0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["reserve", "release", "move"]),
            st.integers(0, 3),
            st.integers(0, 3),
            st.integers(1, 256),
        ),
        max_size=40,
    )
)
@settings(max_examples=60, deadline=None)
def test_blocks_add_up(steps: list[tuple[str, int, int, int]]) -> None:
    """Against a model that counts: never more than there are, and all come back."""
    cache = make(total=320)
    held = [0] * 4
    for action, row, other, tokens in steps:
        if action == "reserve":
            need = max(-(-tokens // 16), held[row])
            fits = sum(held) - held[row] + need <= 20
            assert cache.reserve(row, tokens) == fits
            held[row] = need if fits else held[row]
        elif action == "release":
            cache.release(row)
            held[row] = 0
        elif row != other and held[other] == 0:
            cache.move(row, other, held[row] * 16)
            held[other], held[row] = held[row], 0
        assert cache.used_blocks == sum(held) <= cache.total_blocks
    for row in range(4):
        cache.release(row)
    assert cache.used_blocks == 0


def test_content_follows_a_move_and_a_copy() -> None:
    cache = make()
    cache.reserve(0, 40)
    keys = cache._arrays[0]
    keys[0, :, :40] = np.arange(40)[:, None]
    cache.copy(0, 1, 25)
    cache.move(0, 2, 40)
    assert (keys[1, :, :25] == np.arange(25)[:, None]).all()
    assert (keys[2, :, :40] == np.arange(40)[:, None]).all()
    assert (keys[0] == 0).all()  # its pages went back to the system


def test_a_copy_that_does_not_fit_is_refused() -> None:
    cache = make(total=256)
    assert cache.reserve(0, 256)
    with pytest.raises(CacheFullError):
        cache.copy(0, 1, 1)


def test_a_released_row_gives_its_memory_back() -> None:
    cache = make(rows=2, length=65536)  # 32 MiB a row of a buffer
    process = psutil.Process()
    before = process.memory_info().rss
    cache.reserve(0, 65536)
    for array in cache._arrays:
        array[0] = 1
    full = process.memory_info().rss
    cache.release(0)
    after = process.memory_info().rss
    assert full - before > 60e6
    assert after - before < 10e6


def test_a_row_is_copied_by_a_session_where_numpy_cannot(artifact: Path) -> None:
    """As on a GPU: the graph beside the decoder, bound to both rows by address."""
    session = ort.InferenceSession(artifact.with_name("row_copy.onnx"))
    heads, _, width = session.get_inputs()[0].shape
    cache = KvCache(["k", "v"], 3, 128, (heads, width), np.dtype(np.float32), copier=session)
    content = np.random.default_rng(0).normal(size=cache.row_shape).astype(np.float32)
    for factor, array in enumerate(cache._arrays, start=1):
        array[0] = content * factor
    cache.reserve(0, 128)
    cache.copy(0, 1, 128)
    cache.move(0, 2, 128)
    for factor, array in enumerate(cache._arrays, start=1):
        assert (array[1] == content * factor).all()
        assert (array[2] == content * factor).all()
