"""Which products suffer most from rounding their activations to 8 bits."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from builder.optimize.calibration import Arrays, observed
from builder.optimize.integers import activation_parameters
from builder.optimize.products import products
from builder.optimize.rewrite import load

_SAMPLES: Final = 3
_ROWS: Final = 256
"""Rows of a sample that are looked at: noise is much alike in all of them."""

SHARES: Final = (0.0, 0.125, 0.25, 0.375, 0.5)
"""Of the products, the most harmed first, that are left in fp32 until a tolerance is met."""


def _noise(x: NDArray[Any], weights: NDArray[Any]) -> float:
    """Energy of what rounding `x` [..., in] changes in the product, beside the product's own."""
    scale, zero = activation_parameters((float(x.min()), float(x.max())))
    rows = x.reshape(-1, x.shape[-1])[:_ROWS]
    rounded = (np.clip(np.rint(rows / scale) + zero, 0, 255) - zero) * scale
    difference = (rounded - rows).astype(np.float32) @ weights
    return float(np.square(difference).sum() / max(np.square(rows @ weights).sum(), 1e-30))


def by_harm(graph_file: Path, feeds: Sequence[Arrays], scratch: Path) -> list[int]:
    """Places of the products in `products(...)`, from the most harmed to the least.

    Args:
        graph_file: The fused fp32 graph.
        feeds: Inputs to look at.
        scratch: A folder for the graph that is observed.
    """
    session, names = observed(graph_file, scratch)
    found = products(load(graph_file))
    harm = np.zeros(len(found))
    for feed in islice(feeds, _SAMPLES):
        values = dict(zip(names, session.run(names, dict(feed)), strict=True))
        for place, product in enumerate(found):
            noise = _noise(values[str(product.x.name)], product.matrix())
            harm[place] = max(harm[place], noise)
    return [int(place) for place in np.argsort(-harm, kind="stable")]
