"""Texts of unequal length to batches with little padding."""

from collections.abc import Sequence

WIDTH_STEP = 8
"""Batches are padded to multiples of this, so that there are not too many shapes."""


def groups(
    lengths: Sequence[int], longest: int, max_batch_size: int, batch_tokens: int
) -> list[tuple[list[int], int]]:
    """Split texts into batches at the least cost.

    The cost of a batch is its tokens, padding included, and `batch_tokens` for being one more. The
    texts are sorted by length, so the best split is one into runs; found by dynamic programming.

    Args:
        lengths: Tokens of each text, at least one of them.
        longest: The widest that a batch may be.
        max_batch_size: Most texts of a batch.
        batch_tokens: What a further batch costs, in tokens.

    Returns:
        Places of the texts of each batch and its width in tokens; the widest batch first.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    widths = [
        min(-(-max(lengths[place], 1) // WIDTH_STEP) * WIDTH_STEP, longest) for place in order
    ]
    best: list[tuple[int, int]] = [(0, 0)]  # cost of the first n texts; where their last run begins
    for end in range(1, len(order) + 1):
        best.append(
            min(
                (best[start][0] + (end - start) * widths[end - 1] + batch_tokens, start)
                for start in range(max(0, end - max_batch_size), end)
            )
        )
    found = []
    end = len(order)
    while end:
        start = best[end][1]
        found.append((order[start:end], widths[end - 1]))
        end = start
    return found
