"""ONNX Runtime's fused operators as torch operators, so that torch's exporter writes them.

Each torch operator computes in eager torch what its `com.microsoft` namesake computes:
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import onnx
import onnxscript
import torch

DOMAIN: Final = "com.microsoft"

Translations = dict[Callable[..., Any], Callable[..., Any]]
"""For `torch.onnx.export(custom_translation_table=...)`."""


def contrib_opset() -> Any:
    """The opset that `onnxscript` builds the operators with."""
    return onnxscript.values.Opset(DOMAIN, 1)


def register_schema(
    name: str,
    inputs: Sequence[tuple[str, str]],
    outputs: Sequence[tuple[str, str]],
    attributes: dict[str, onnx.defs.OpSchema.AttrType],
) -> None:
    """Tell onnx an operator's signature (as far as it is used); the exporter needs it.

    Args:
        name: The operator.
        inputs: Names and types: "T" for values, "F" for fp32, "M" for int32, "I" for int64.
        outputs: The same.
        attributes: Names and kinds.
    """
    if onnx.defs.has(name, DOMAIN):
        return
    schema, parameter = onnx.defs.OpSchema, onnx.defs.OpSchema.FormalParameter
    floats = ["tensor(float)", "tensor(float16)", "tensor(bfloat16)"]
    constraints = {
        "T": floats,
        "F": ["tensor(float)"],
        "M": ["tensor(int32)"],
        "I": ["tensor(int64)"],
    }
    used = {kind for _, kind in (*inputs, *outputs)}
    onnx.defs.register_schema(
        schema(
            name,
            DOMAIN,
            1,
            inputs=[parameter(label, kind) for label, kind in inputs],
            outputs=[parameter(label, kind) for label, kind in outputs],
            type_constraints=[(kind, constraints[kind], "") for kind in sorted(used)],
            attributes=[schema.Attribute(k, v, required=True) for k, v in attributes.items()],
        )
    )


@torch.library.custom_op("arr_coc::skip_rms_norm", mutates_args=())
def skip_rms_norm(
    x: torch.Tensor, skip: torch.Tensor, weight: torch.Tensor, epsilon: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """RMS norm of a sum, and the sum: `SkipSimplifiedLayerNormalization`.

    Args:
        x: [..., D].
        skip: [..., D].
        weight: [D].
        epsilon: Added to the mean square.

    Returns:
        Normalized [..., D] and `x + skip`.
    """
    total = x + skip
    wide = total.float()
    normal = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon)
    return weight * normal.to(x.dtype), total


@skip_rms_norm.register_fake
def _skip_rms_norm_fake(x: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty_like(x), torch.empty_like(x)


@torch.library.custom_op("arr_coc::rotary_embedding", mutates_args=())
def rotary_embedding(
    x: torch.Tensor, rows: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> torch.Tensor:
    """Rotate halves of each head: `RotaryEmbedding`.

    Args:
        x: [B, S, heads * d].
        rows: int64 [B, S], the row of the tables for each token.
        cos: [R, d / 2].
        sin: [R, d / 2].

    Returns:
        [B, S, heads * d].
    """
    half = cos.shape[1]
    pairs = x.reshape(*x.shape[:2], -1, 2, half)
    c, s = (table[rows].unsqueeze(2) for table in (cos, sin))
    first, second = pairs[..., 0, :], pairs[..., 1, :]
    rotated = torch.stack((first * c - second * s, second * c + first * s), dim=-2)
    return rotated.reshape(x.shape)


@rotary_embedding.register_fake
def _rotary_embedding_fake(x: torch.Tensor, *rest: Any) -> torch.Tensor:
    return torch.empty_like(x)


def translations() -> Translations:
    """How the operators of this module become ONNX."""
    kinds = onnx.defs.OpSchema.AttrType
    register_schema(
        "SkipSimplifiedLayerNormalization",
        (("input", "T"), ("skip", "T"), ("gamma", "T")),
        # The mean and the inverse deviation, which stand between, are never computed.
        (("output", "T"), ("mean", "F"), ("inv_std_var", "F"), ("input_skip_bias_sum", "T")),
        {"epsilon": kinds.FLOAT},
    )
    register_schema(
        "RotaryEmbedding",
        (("input", "T"), ("position_ids", "I"), ("cos_cache", "T"), ("sin_cache", "T")),
        (("output", "T"),),
        {"interleaved": kinds.INT},
    )
    contrib = contrib_opset()

    def norm(x: Any, skip: Any, weight: Any, epsilon: float) -> Any:
        outputs = contrib.SkipSimplifiedLayerNormalization(
            x, skip, weight, epsilon=epsilon, _outputs=4
        )
        return outputs[0], outputs[3]

    def rotate(x: Any, rows: Any, cos: Any, sin: Any) -> Any:
        return contrib.RotaryEmbedding(x, rows, cos, sin, interleaved=0)

    return {
        torch.ops.arr_coc.skip_rms_norm.default: norm,
        torch.ops.arr_coc.rotary_embedding.default: rotate,
    }
