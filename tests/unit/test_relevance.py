"""The relevance modules: properties that the public v0.1 lacked."""

from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.arr_coc.modules.allocator import allocate
from builder.arr_coc.modules.relevance import Relevance, RelevanceConfig
from builder.arr_coc.modules.scorers import perspectival, propositional
from builder.arr_coc.modules.texture import CHANNELS, texture_array

GRID = (6, 8)
CELL = 4
WIDTH = 24


def noise(seed: int, batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, GRID[0] * CELL, GRID[1] * CELL, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="module")
def modules() -> tuple[Relevance, torch.Tensor]:
    relevance = Relevance.untrained(RelevanceConfig(query_dim=WIDTH), seed=3).double()
    return relevance, torch.randn(50, WIDTH, generator=torch.Generator().manual_seed(1))


def run(
    modules: tuple[Relevance, torch.Tensor],
    pixels: torch.Tensor,
    ids: list[list[int]],
    lengths: list[int],
    kept: int = 12,
) -> tuple[torch.Tensor, torch.Tensor]:
    relevance, embeddings = modules
    with torch.no_grad():
        return relevance(
            pixels, torch.tensor(ids), torch.tensor(lengths)[:, None], embeddings, GRID, kept
        )


def test_no_channel_repeats_another() -> None:
    texture = texture_array(noise(0), *GRID)[0]
    assert texture.shape == (48, len(CHANNELS)) == (48, 13)
    for a, b in combinations(range(13), 2):
        assert not torch.allclose(texture[:, a], texture[:, b]), (CHANNELS[a], CHANNELS[b])


def test_known_colours() -> None:
    pixels = torch.zeros((1, 24, 32, 3), dtype=torch.uint8)
    pixels[..., :16, :] = 255  # left half white, right half black
    texture = texture_array(pixels, *GRID)[0].reshape(*GRID, 13)
    value = {name: texture[..., i] for i, name in enumerate(CHANNELS)}
    torch.testing.assert_close(value["lightness"][:, :4], torch.ones(6, 4, dtype=torch.float64))
    torch.testing.assert_close(value["luminance"][:, 4:], torch.zeros(6, 4, dtype=torch.float64))
    assert value["redness"].abs().max() < 1e-3  # greys have no hue
    assert value["sobel_x"].abs().sum(dim=0).nonzero().flatten().tolist() == [3, 4]  # the edge
    assert value["sobel_y"].abs().max() < 1e-12
    assert value["y"][0, 0] == -1 and value["x"][0, -1] == 1


@given(seeds=st.lists(st.integers(0, 1000), min_size=2, max_size=4), place=st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_a_result_does_not_depend_on_the_batch(
    modules: tuple[Relevance, torch.Tensor], seeds: list[int], place: int
) -> None:
    place %= len(seeds)
    pixels = torch.cat([noise(seed) for seed in seeds])
    ids = [[seed % 50, 7, (seed * 3) % 50] for seed in seeds]
    kept, scores = run(modules, pixels, ids, [3] * len(seeds))
    alone_kept, alone_scores = run(modules, noise(seeds[place]), [ids[place]], [3])
    assert torch.equal(kept[place], alone_kept[0])
    torch.testing.assert_close(scores[place], alone_scores[0], rtol=0, atol=1e-12)


@given(padding=st.lists(st.integers(0, 49), max_size=8))
@settings(max_examples=25, deadline=None)
def test_padding_never_enters_the_query(
    modules: tuple[Relevance, torch.Tensor], padding: list[int]
) -> None:
    question = [5, 11, 31]
    kept, scores = run(modules, noise(4), [question], [3])
    padded_kept, padded_scores = run(modules, noise(4), [question + padding], [3])
    assert torch.equal(kept, padded_kept)
    torch.testing.assert_close(scores, padded_scores, rtol=0, atol=1e-12)


def test_the_question_matters(modules: tuple[Relevance, torch.Tensor]) -> None:
    first, _ = run(modules, noise(4), [[5, 11]], [2])
    second, _ = run(modules, noise(4), [[40, 2]], [2])
    assert not torch.equal(first, second)


def test_a_length_of_zero_gives_finite_scores(modules: tuple[Relevance, torch.Tensor]) -> None:
    _, scores = run(modules, noise(4), [[0, 0]], [0])
    assert torch.isfinite(scores).all()


def test_flat_pictures_score_finitely_and_keep_raster_order(
    modules: tuple[Relevance, torch.Tensor],
) -> None:
    flat = torch.full((1, 24, 32, 3), 93, dtype=torch.uint8)
    texture = texture_array(flat, *GRID)
    assert perspectival(texture).abs().max() == 0
    assert ((propositional(texture) >= 0) & (propositional(texture) <= 1)).all()
    _, scores = run(modules, flat, [[1]], [1])
    assert torch.isfinite(scores).all()


@given(
    scores=st.lists(st.integers(-40, 40), min_size=1, max_size=60),
    kept=st.integers(1, 60),
)
def test_allocation_sorts_by_relevance_then_raster_order(scores: list[int], kept: int) -> None:
    kept = min(kept, len(scores))
    got = allocate(torch.tensor([scores], dtype=torch.float64) / 41, kept)[0].tolist()
    assert got == sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:kept]


def test_a_prefix_is_the_choice_of_a_smaller_k(modules: tuple[Relevance, torch.Tensor]) -> None:
    large, _ = run(modules, noise(9), [[3]], [1], kept=30)
    small, _ = run(modules, noise(9), [[3]], [1], kept=7)
    assert torch.equal(large[0, :7], small[0])


def test_gradients_reach_every_parameter(modules: tuple[Relevance, torch.Tensor]) -> None:
    relevance, embeddings = modules
    texture = texture_array(noise(2), *GRID)
    query = relevance.pool(embeddings, torch.tensor([[1, 2]]), torch.tensor([[2]]))
    scores, _, _ = relevance.scores(texture, query)
    (scores**2).sum().backward()
    for name, parameter in relevance.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    relevance.zero_grad()


def test_round_trip(tmp_path, modules: tuple[Relevance, torch.Tensor]) -> None:  # type: ignore[no-untyped-def]
    modules[0].save_pretrained(tmp_path)
    loaded = Relevance.from_pretrained(tmp_path).double()
    for a, b in zip(loaded.parameters(), modules[0].parameters(), strict=True):
        assert torch.equal(a, b)
