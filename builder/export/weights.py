"""Block-wise quantized weights: `MatMul` becomes `MatMulNBits`, by ONNX Runtime's own quantizer.

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulNBits
"""

import importlib
import logging
from pathlib import Path
from typing import Any, Final

import onnx

from builder.errors import ExportError
from builder.export.onnx_file import INLINE_BYTES
from builder.spec.language import WeightFormat

_BITS: Final[dict[WeightFormat, int]] = {"int8": 8, "int4": 4}

INT8_ACCUMULATION: Final = 4
"""`accuracy_level` of MatMulNBits: activations are rounded to int8 by block, where the CPU has the
instructions.

Level 0 unpacks the weights to fp32 and was 3 to 4 times slower here at every batch size.
"""


def nbits_quantizer() -> Any:
    """ONNX Runtime's module of block-wise quantizers, imported where it is needed."""
    level = logging.getLogger().level
    module = importlib.import_module("onnxruntime.quantization.matmul_nbits_quantizer")
    logging.getLogger().setLevel(level)  # the module's import lets every library log
    return module


def quantize_weights(path: Path, weights: WeightFormat, block_size: int) -> None:
    """Quantize every matrix product with constant weights of an ONNX file in place.

    Symmetric, `block_size` values along the input dim to a scale. The token embedding is looked
    up, not multiplied, and stays as it is.

    Args:
        path: The file; weights in a file beside it are read and written again.
        weights: The format.
        block_size: Values to a scale.

    Raises:
        ExportError: nothing was quantized.
    """
    nbits = nbits_quantizer()
    logging.getLogger(nbits.__name__).setLevel(logging.ERROR)
    model = onnx.load(path)
    quantizer = nbits.MatMulNBitsQuantizer(
        model,
        bits=_BITS[weights],
        block_size=block_size,
        is_symmetric=True,
        accuracy_level=INT8_ACCUMULATION,
    )
    quantizer.process()
    model = quantizer.model.model
    if not any(node.op_type == "MatMulNBits" for node in model.graph.node):
        raise ExportError(f"{path.name}: no weights could be quantized to {weights}")
    data = path.with_name(f"{path.name}.data")
    data.unlink(missing_ok=True)
    onnx.save(
        model,
        path,
        save_as_external_data=model.ByteSize() > INLINE_BYTES,
        location=data.name,
    )
