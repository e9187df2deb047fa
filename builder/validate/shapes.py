"""Arithmetic of dims as Triton does it, -1 being a dim of any size."""

from collections.abc import Iterable, Sequence

WILDCARD = -1


def element_count(dims: Iterable[int]) -> int:
    """Number of elements, -1 if any dim is -1, 0 for no dims; `GetElementCount` of triton_common.

    64-bit, wrapping around as in C++.
    """
    count = 0
    for number, dim in enumerate(dims):
        if dim == WILDCARD:
            return WILDCARD
        count = dim if number == 0 else count * dim
    return (count + (1 << 63)) % (1 << 64) - (1 << 63)


def trunks(dims: Iterable[int]) -> list[int]:
    """Element counts of the runs between the dims of any size."""
    counts = [1]
    for dim in dims:
        if dim == WILDCARD:
            counts.append(1)
        else:
            counts[-1] *= dim
    return counts


def compatible(left: Sequence[int], right: Sequence[int]) -> bool:
    """Same rank, and every pair of dims equal or one of them -1; `CompareDimsWithWildcard`."""
    return len(left) == len(right) and all(
        a == b or WILDCARD in (a, b) for a, b in zip(left, right, strict=True)
    )


def words(dims: Iterable[int]) -> str:
    """Dims as shown to the user."""
    return "[" + ", ".join(str(dim) for dim in dims) + "]"
