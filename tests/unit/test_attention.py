"""The grouped-query attention operator: eager torch against ONNX Runtime's kernel."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn
from torch.export import Dim

from builder.contrib.attention import group_query_attention
from builder.export.onnx_file import export_module
from builder.spec.releases import onnx_limits

HEADS, KV_HEADS, WIDTH, CACHE = 4, 2, 8, 12


class _Attention(nn.Module):
    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return group_query_attention(*tensors, HEADS, KV_HEADS)


def inputs(batch: int, length: int, past: list[int], seed: int = 0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    lengths = torch.tensor(past, dtype=torch.int32) + length
    return (
        normal(batch, length, HEADS * WIDTH),
        normal(batch, length, KV_HEADS * WIDTH),
        normal(batch, length, KV_HEADS * WIDTH),
        normal(batch, KV_HEADS, CACHE, WIDTH),
        normal(batch, KV_HEADS, CACHE, WIDTH),
        lengths - 1,
        lengths.max(),
    )


NAMES = ["query", "key", "value", "past_key", "past_value", "seqlens_k", "total"]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> ort.InferenceSession:
    path: Path = tmp_path_factory.mktemp("gqa") / "gqa.onnx"
    batch, length = Dim("batch", min=1, max=64), Dim("length", min=1, max=64)
    moving = [{0: batch, 1: length}] * 3 + [{0: batch}] * 3 + [{}]
    export_module(
        _Attention().eval(),
        inputs(2, 3, [2, 5]),
        path,
        input_names=NAMES,
        output_names=["output", "present_key", "present_value"],
        dynamic_shapes=(tuple(moving),),
        limits=onnx_limits("24.10"),
    )
    return ort.InferenceSession(str(path))


@pytest.mark.parametrize(
    ("batch", "length", "past"), [(1, 7, [0]), (1, 1, [4]), (3, 1, [0, 5, 11]), (1, 12, [0])]
)
def test_the_kernel_and_eager_torch_agree(
    session: ort.InferenceSession, batch: int, length: int, past: list[int]
) -> None:
    tensors = inputs(batch, length, past, seed=7)
    wanted = group_query_attention(*tensors, HEADS, KV_HEADS)
    feeds = {name: tensor.numpy() for name, tensor in zip(NAMES, tensors, strict=True)}
    got = session.run(None, feeds)
    np.testing.assert_allclose(got[0], wanted[0].numpy(), atol=1e-5)
    for row, end in enumerate((tensors[5] + 1).tolist()):
        for cache in (1, 2):
            np.testing.assert_array_equal(
                got[cache][row, :, :end], wanted[cache].numpy()[row, :, :end]
            )


def test_the_operator_passes_torchs_own_checks() -> None:
    torch.library.opcheck(group_query_attention, (*inputs(2, 1, [3, 0]), HEADS, KV_HEADS))
