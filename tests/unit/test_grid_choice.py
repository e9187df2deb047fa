"""Which grid a picture gets, and which grids a spec may have."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from builder.arr_coc.configs import pipeline_configs
from builder.arr_coc.facts import load_facts
from builder.arr_coc.reference import Reference
from builder.render.model_config import ModelConfig
from builder.runtime.models.preprocess.grids import Grid, nearest_grid, parse_grids
from builder.spec.models import Spec

SIDES = st.integers(1, 128)
GRIDS = st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=8)
SIZES = st.tuples(st.integers(1, 20_000), st.integers(1, 20_000))


def distance(grid: Grid, *sizes: tuple[int, int]) -> float:
    mean = sum(math.log(width / height) for width, height in sizes) / len(sizes)
    return abs(mean - math.log(grid[1] / grid[0]))


@given(grids=GRIDS, size=SIZES)
def test_no_grid_is_nearer(grids: Sequence[Grid], size: tuple[int, int]) -> None:
    chosen = nearest_grid(grids, [size])
    assert distance(chosen, size) <= min(distance(grid, size) for grid in grids) + 1e-9


@given(grids=GRIDS, size=SIZES, data=st.data())
def test_the_choice_depends_on_the_order_in_ties_alone(
    grids: Sequence[Grid], size: tuple[int, int], data: st.DataObject
) -> None:
    distances = sorted({distance(grid, size) for grid in set(grids)})
    assume(all(b - a > 1e-9 for a, b in itertools.pairwise(distances)))
    assume(len(distances) == len(set(grids)))
    shuffled = data.draw(st.permutations(grids))
    assert nearest_grid(shuffled, [size]) == nearest_grid(grids, [size])


@given(grid=st.tuples(SIDES, SIDES), scale=st.integers(1, 200), others=GRIDS)
def test_a_grid_of_the_picture_s_own_shape_is_chosen(
    grid: Grid, scale: int, others: list[Grid]
) -> None:
    rows, cols = nearest_grid([*others, grid], [(grid[1] * scale, grid[0] * scale)])
    assert rows * grid[1] == cols * grid[0]


@given(grids=GRIDS, sizes=st.lists(SIZES, min_size=2, max_size=16), data=st.data())
def test_several_pictures_have_the_geometric_mean(
    grids: Sequence[Grid], sizes: list[tuple[int, int]], data: st.DataObject
) -> None:
    chosen = nearest_grid(grids, sizes)
    assert distance(chosen, *sizes) <= min(distance(grid, *sizes) for grid in grids) + 1e-9
    assert nearest_grid(grids, data.draw(st.permutations(sizes))) == chosen


def test_the_first_of_two_that_are_equally_near() -> None:
    square = [(600, 600)]
    assert nearest_grid([(2, 3), (3, 2)], square) == (2, 3)
    assert nearest_grid([(3, 2), (2, 3)], square) == (3, 2)
    assert parse_grids("16x16,12x20") == [(16, 16), (12, 20)]


def spec_of(**changes: object) -> Spec:
    document = {
        "name": "arr_coc",
        "checkpoint": {"path": "x"},
        "grid": {"rows": 4, "cols": 4},
        "grids": [{"rows": 3, "cols": 5}, {"rows": 5, "cols": 3}],
        "kept_tokens": 6,
    }
    return Spec.model_validate({**document, **changes})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"kept_tokens": 16}, "kept_tokens 16 is larger than the 15 cells of the 3 x 5 grid"),
        ({"target": "tensorrt"}, "a TensorRT engine is built for one grid"),
        ({"grids": [{"rows": 8, "cols": 8}]}, "4 x 4 and 8 x 8 have the same aspect ratio"),
        ({"grids": [{"rows": 1, "cols": 9}]}, "the 1 x 9 grid is a single line of cells"),
        ({"grids": [{"rows": 2, "cols": 3 + i} for i in range(8)]}, "at most 7 items"),
    ],
)
def test_grids_that_are_refused(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        spec_of(**changes)


@pytest.fixture(scope="module")
def configs(reference: Reference) -> dict[str, ModelConfig]:
    spec = spec_of(checkpoint=reference.spec.checkpoint.model_dump())
    folder = Path(__file__).parents[2] / "specs"
    facts = load_facts(spec.checkpoint, folder)
    return {config.name: config for config in pipeline_configs(spec, facts)}


def test_dims_of_the_grid_are_free(configs: dict[str, ModelConfig]) -> None:
    dims = {tensor.name: tensor.dims for config in configs.values() for tensor in config.outputs}
    assert dims["pixels"] == (-1, -1, 3)
    assert dims["image_embeds"] == (-1, 64)
    assert dims["relevance_map"] == (-1, -1)
    assert dims["kept_indices"] == (6,)


def test_every_grid_is_warmed_up(configs: dict[str, ModelConfig]) -> None:
    for stage in ("vision", "relevance"):
        warmed = {w.name: w.inputs[0].dims for w in configs[stage].warmup}
        assert warmed == {"4x4": (112, 112, 3), "3x5": (84, 140, 3), "5x3": (140, 84, 3)}
