"""The protobuf wire format, walked over a memory map without decoding what is not wanted."""

import mmap
from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class WireError(Exception):
    """The bytes are no protobuf message; the message says why."""


def fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Fields of a message: number, wire type, and the value (varint) or the span of the bytes.

    For a varint the last item is where it ends.
    """
    position = start
    while position < end:
        key, position = _varint(data, position, end)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise WireError("it is no protobuf message")
        if wire == VARINT:
            value, position = _varint(data, position, end)
            yield number, wire, value, position
            continue
        if wire == BYTES:
            length, position = _varint(data, position, end)
        elif wire in (FIXED64, FIXED32):
            length = 8 if wire == FIXED64 else 4
        else:
            raise WireError("it is no protobuf message")
        if length > end - position:
            raise WireError("it ends in the middle of a field")
        yield number, wire, position, position + length
        position += length


def encode_varint(number: int, value: int) -> bytes:
    """A varint field."""
    return _encode(number << 3 | VARINT) + _encode(value)


def encode_bytes(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return _encode(number << 3 | BYTES) + _encode(len(content)) + content


def _encode(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _varint(data: mmap.mmap, position: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while position < end and shift < 70:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise WireError("it is no protobuf message")
