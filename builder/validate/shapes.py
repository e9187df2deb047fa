"""Arithmetic of dims as Triton does it, -1 being a dim of any size."""

from collections.abc import Iterable, Sequence

WILDCARD = -1
_MOST = (1 << 63) - 1


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


def size_problem(dims: Sequence[int], element_bytes: int = 1) -> str:
    """What keeps Triton 26.03 and later from counting elements or bytes, in words; "" for nothing.

    Dims are looked at in their order, and a dim of any size ends the look: `GetElementCount` and
    `GetByteSize` of triton_common at r26.03.

    Args:
        dims: The dims.
        element_bytes: Bytes of an element; 4 for a string, 0 for no type, which has no size.
    """
    count, first = 0, True
    for dim in dims:
        if dim == WILDCARD or not element_bytes:
            return ""
        if dim < 0:
            return f"the dim {dim}"
        if not first and dim and count > _MOST // dim:
            return f"more than {_MOST} elements"
        count = dim if first else count * dim
        first = False
    return f"more than {_MOST} bytes" if count > _MOST // (element_bytes or 1) else ""


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
