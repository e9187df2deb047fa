"""How fast the arithmetic alone allows a BERT encoder to be on this machine."""

import statistics
import time

import torch
from transformers import BertConfig


def flops(config: BertConfig, lengths: list[int]) -> float:
    """Floating-point operations of the matrix products for texts of these lengths, no padding."""
    width, inner = config.hidden_size, config.intermediate_size
    a_token = 2 * (4 * width * width + 2 * width * inner)
    total = 0.0
    for length in lengths:
        total += config.num_hidden_layers * (length * a_token + 4 * length * length * width)
    return total


def matrix_flops_a_second(threads: int) -> float:
    """What torch.mm reaches on the encoder's own widths with many rows: the median of ten."""
    torch.set_num_threads(threads)
    a, b = torch.rand(1024, 1536), torch.rand(1536, 384)
    rates = []
    for _ in range(10):
        start = time.perf_counter()
        for _ in range(20):
            torch.mm(a, b)
        rates.append(20 * 2 * a.shape[0] * a.shape[1] * b.shape[1] / (time.perf_counter() - start))
    return statistics.median(rates)
