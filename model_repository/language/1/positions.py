"""The prompt as the decoder reads it: kept visual tokens in place, M-RoPE positions."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Sequence:
    """A prompt of S tokens.

    Attributes:
        input_ids: int64 [S]; the placeholder's id at visual tokens.
        visual_mask: bool [S], true at visual tokens.
        position_ids: int64 [3, S] (time, row, column).
        next_position: Position of the first generated token, in all three rows.
    """

    input_ids: NDArray[np.int64]
    visual_mask: NDArray[np.bool_]
    position_ids: NDArray[np.int64]
    next_position: int


def text_sequence(ids: NDArray[np.int64]) -> Sequence:
    """A prompt of text alone.

    Args:
        ids: int64 [S].
    """
    positions = np.broadcast_to(np.arange(ids.size), (3, ids.size))
    return Sequence(ids, np.zeros(ids.size, dtype=np.bool_), positions, ids.size)


def build_sequence(
    prompt_ids: NDArray[np.int32], kept: NDArray[np.int32], grid: tuple[int, int], image_token: int
) -> Sequence:
    """Put the kept visual tokens in the place of the placeholder.

    They keep the positions that they have in the whole picture, and the text after them goes on
    where it would after the whole picture (Qwen2-VL's `get_rope_index`): with all tokens kept
    this is the base model's own sequence.

    Args:
        prompt_ids: int32 [T] with one image placeholder.
        kept: int32 [K], cells to keep in raster order.
        grid: Token cells (rows, cols).
        image_token: Id of the placeholder.

    Raises:
        ValueError: not exactly one placeholder.
    """
    places = np.flatnonzero(prompt_ids == image_token)
    if places.size != 1:
        raise ValueError(f"prompt_ids has {places.size} image placeholders; exactly one is needed")
    before = int(places[0])
    after = prompt_ids.size - before - 1
    ids = np.concatenate(
        (prompt_ids[:before], np.full(kept.size, image_token), prompt_ids[before + 1 :])
    ).astype(np.int64)
    mask = np.zeros(ids.size, dtype=np.bool_)
    mask[before : before + kept.size] = True
    positions = np.empty((3, ids.size), dtype=np.int64)
    positions[:, :before] = np.arange(before)
    visual = positions[:, before : before + kept.size]
    visual[0] = before
    visual[1] = before + kept // grid[1]
    visual[2] = before + kept % grid[1]
    resumed = before + max(grid)
    positions[:, before + kept.size :] = np.arange(resumed, resumed + after)
    return Sequence(ids, mask, positions, resumed + after)
