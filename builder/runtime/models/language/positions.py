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
    prompt_ids: NDArray[np.int32],
    kept: NDArray[np.int32],
    grid: tuple[int, int],
    image_token: int,
    pictures: int = 1,
) -> Sequence:
    """Put the kept visual tokens in the place of the placeholders.

    They keep the positions that they have in the whole pictures, and the text after a picture goes
    on where it would after the whole of it, even where none of its tokens is kept (Qwen2-VL's
    `get_rope_index`, which for pictures Qwen3-VL shares): with all tokens kept this is the base
    model's own sequence.

    Args:
        prompt_ids: int32 [T] with an image placeholder for each picture.
        kept: int32 [K], cells to keep in raster order; those of the second picture come behind
            the rows * cols of the first, and so on.
        grid: Token cells (rows, cols) of each picture.
        image_token: Id of the placeholder.
        pictures: Placeholders that there must be.

    Raises:
        ValueError: there are more or fewer.
    """
    places = np.flatnonzero(prompt_ids == image_token)
    if places.size != pictures:
        wanted = "exactly one is" if pictures == 1 else f"exactly {pictures} are"
        raise ValueError(f"prompt_ids has {places.size} image placeholders; {wanted} needed")
    ids, visual, positions = [], [], []
    position, done = 0, 0
    for picture, place in enumerate(places):
        text = prompt_ids[done:place]
        cells = kept[kept // (grid[0] * grid[1]) == picture] % (grid[0] * grid[1])
        start = position + text.size
        ids += [text, np.full(cells.size, image_token)]
        visual += [np.zeros(text.size, dtype=np.bool_), np.ones(cells.size, dtype=np.bool_)]
        positions.append(np.broadcast_to(np.arange(position, start), (3, text.size)))
        rows, cols = start + cells // grid[1], start + cells % grid[1]
        positions.append(np.stack((np.full(cells.size, start), rows, cols)))
        position, done = start + max(grid), int(place) + 1
    text = prompt_ids[done:]
    end = position + text.size
    return Sequence(
        np.concatenate((*ids, text)).astype(np.int64),
        np.concatenate((*visual, np.zeros(text.size, dtype=np.bool_))),
        np.concatenate((*positions, np.broadcast_to(np.arange(position, end), (3, text.size))), 1),
        end,
    )
