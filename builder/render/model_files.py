"""Files of a user's that a model config refers to: read here, written into the model's folder."""

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from builder.errors import SpecError

DTYPES: Final[dict[str, Any]] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "STRING": np.object_,
}
"""Data type -> NumPy's; BF16 has none."""


@dataclass(frozen=True)
class Source:
    """Where a value comes from: the key, for errors, and the folder of the spec file."""

    where: str
    base: Path

    def fail(self, text: str) -> SpecError:
        """The error to raise."""
        return SpecError(f"{self.where}: {text}")

    def read(self, path: str) -> bytes:
        """The bytes of a file, relative to the spec file.

        Raises:
            SpecError: it can't be read.
        """
        try:
            return (self.base / path).read_bytes()
        except OSError as error:
            raise self.fail(
                f"{self.base / path} can't be read: {error.strerror}; paths are relative to the "
                "spec file"
            ) from error

    def tensor(self, path: str, data_type: str) -> tuple[bytes, tuple[int, ...] | None]:
        """A tensor's raw bytes, and its dims where the file says them (.npy).

        Raises:
            SpecError: it can't be read, or is of another type.
        """
        data = self.read(path)
        if not path.endswith(".npy"):
            return data, None
        try:
            array = np.load(io.BytesIO(data), allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise self.fail(f"{self.base / path} is no .npy file without pickles") from error
        if data_type == "STRING" and array.dtype.kind in "US":
            return raw_bytes(array.astype(object), data_type), array.shape
        if array.dtype != DTYPES.get(data_type):
            raise self.fail(f"{path} is {array.dtype}, the input {data_type}")
        return raw_bytes(array, data_type), array.shape

    def values(self, values: Any, data_type: str) -> tuple[bytes, tuple[int, ...]]:
        """Values of a spec as a tensor: raw bytes and dims.

        Raises:
            SpecError: they are none of that type, or have no shape.
        """
        dtype = DTYPES.get(data_type)
        if dtype is None:
            raise self.fail(f"values of type {data_type} can't be written here; use a file")
        if isinstance(values, str):
            values = [values]
        try:
            array = np.array(values, dtype=dtype)
        except (ValueError, TypeError, OverflowError) as error:
            raise self.fail(f"the values are no {data_type} tensor: {error}") from error
        texts = all(isinstance(value, str) for value in array.flat)
        if (data_type == "STRING") != texts:
            raise self.fail(f"the values are no {data_type} tensor")
        return raw_bytes(array, data_type), array.shape


def raw_bytes(array: NDArray[Any], data_type: str) -> bytes:
    """A tensor as Triton reads it from a file: row by row, a string after its length."""
    if data_type != "STRING":
        return np.ascontiguousarray(array).tobytes()
    texts = [v if isinstance(v, bytes) else str(v).encode() for v in array.flat]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


def element_bytes(data_type: str) -> int | None:
    """Bytes of an element; None: strings have no fixed size."""
    if data_type == "STRING":
        return None
    return 2 if data_type == "BF16" else int(np.dtype(DTYPES[data_type]).itemsize)


def safe_name(*parts: object) -> str:
    """A file name that the parts can be read in."""
    return "-".join(re.sub(r"[^A-Za-z0-9_.]+", "_", str(part)) for part in parts)
