"""What the language stage does around the decoder: positions, sampling, text, options."""

import unicodedata

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from builder.arr_coc.reference import Reference
from builder.runtime.models.language.options import GenerationOptions, OptionError, decode_stop
from builder.runtime.models.language.positions import build_sequence
from builder.runtime.models.language.sampler import Sampler
from builder.runtime.models.language.text import TextStream

GREEDY = GenerationOptions(max_tokens=8, visual_tokens=4)


@given(
    before=st.integers(0, 9),
    after=st.integers(0, 9),
    grid=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_positions_are_the_base_models_own(
    reference: Reference, before: int, after: int, grid: tuple[int, int], data: st.DataObject
) -> None:
    """Kept cells sit where Qwen2-VL's get_rope_index puts them in the whole picture."""
    image = reference.source.facts.image_token_id
    cells = grid[0] * grid[1]
    kept = np.array(
        sorted(data.draw(st.sets(st.integers(0, cells - 1), min_size=1))), dtype=np.int32
    )
    text = [3] * before + [image] + [4] * after
    sequence = build_sequence(np.array(text, dtype=np.int32), kept, grid, image)
    whole = torch.tensor([[3] * before + [image] * cells + [4] * after])
    positions, _ = reference.source.model.model.get_rope_index(
        whole, (whole == image).int(), image_grid_thw=torch.tensor([[1, 2 * grid[0], 2 * grid[1]]])
    )
    keep = [*range(before), *(before + kept), *range(before + cells, whole.shape[1])]
    assert sequence.position_ids.tolist() == positions[:, 0, keep].tolist()
    assert sequence.next_position == int(positions.max()) + 1 or after == 0
    assert sequence.visual_mask.sum() == len(kept)
    assert sequence.input_ids.tolist() == whole[0, keep].tolist()


def test_text_goes_on_behind_the_whole_picture() -> None:
    sequence = build_sequence(np.array([9], dtype=np.int32), np.array([0]), (3, 5), 9)
    assert sequence.next_position == 5


@pytest.mark.parametrize("ids", [[1, 2], [9, 1, 9]])
def test_exactly_one_placeholder(ids: list[int]) -> None:
    with pytest.raises(ValueError, match="exactly one"):
        build_sequence(np.array(ids, dtype=np.int32), np.array([0]), (2, 2), 9)


@given(seed=st.integers(0, 2**63), size=st.integers(2, 50))
def test_greedy_is_argmax(seed: int, size: int) -> None:
    logits = np.random.default_rng(seed).normal(size=size).astype(np.float32)
    assert Sampler(GREEDY)(logits) == int(logits.argmax())


@given(
    seed=st.integers(0, 10**6),
    temperature=st.floats(0.2, 3.0),
    top_k=st.integers(0, 12),
    top_p=st.floats(0.05, 1.0),
)
@settings(deadline=None)
def test_candidates_are_those_of_transformers_warpers(
    seed: int, temperature: float, top_k: int, top_p: float
) -> None:
    logits = np.random.default_rng(seed).normal(size=12).astype(np.float32)
    options = GenerationOptions(8, 4, temperature, top_p, top_k, seed)
    scores = torch.from_numpy(logits)[None].double()
    warpers = [TemperatureLogitsWarper(temperature)]
    if top_k:
        warpers.append(TopKLogitsWarper(top_k))
    if top_p < 1:
        warpers.append(TopPLogitsWarper(top_p))
    for warper in warpers:
        scores = warper(torch.zeros((1, 0), dtype=torch.long), scores)
    wanted = torch.softmax(scores[0], dim=-1).numpy()
    sampler = Sampler(options)
    counts = np.zeros(12)
    for _ in range(400):
        counts[sampler(logits)] += 1
    assert counts[wanted == 0].sum() == 0
    # 400 draws: five standard deviations of each token's count.
    assert (np.abs(counts / 400 - wanted) <= 5 * np.sqrt(wanted * (1 - wanted) / 400) + 1e-9).all()


def test_a_seed_gives_the_same_tokens_and_another_seed_others() -> None:
    rows = np.random.default_rng(0).normal(size=(30, 40)).astype(np.float32)

    def draw(seed: int) -> list[int]:
        sampler = Sampler(GenerationOptions(30, 4, 1.0, seed=seed))
        return [sampler(row) for row in rows]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


@pytest.fixture(scope="module")
def tokenizer(reference: Reference) -> Tokenizer:
    return Tokenizer.from_str(reference.source.facts.tokenizer.backend_tokenizer.to_str())


@given(ids=st.lists(st.integers(0, 382), max_size=60))
@settings(max_examples=300, deadline=None)
def test_streamed_text_is_the_decoded_text(tokenizer: Tokenizer, ids: list[int]) -> None:
    """Whatever bytes the model emits: the pieces joined are the text decoded at once."""
    stream = TextStream(tokenizer)
    pieces = [stream.push(token) for token in ids] + [stream.finish()]
    assert "".join(pieces) == tokenizer.decode(ids, skip_special_tokens=True)


@given(text=st.text(min_size=1, max_size=40))
@settings(max_examples=200, deadline=None)
def test_every_piece_is_whole_characters(tokenizer: Tokenizer, text: str) -> None:
    stream = TextStream(tokenizer)
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    pieces = [stream.push(token) for token in ids] + [stream.finish()]
    assert "".join(pieces) == unicodedata.normalize("NFC", text)  # the tokenizer's normalizer
    assert "\ufffd" in text or not any("\ufffd" in piece for piece in pieces)


@given(
    text=st.text(alphabet="abc ", min_size=1, max_size=30),
    stops=st.lists(st.text(alphabet="abc ", min_size=1, max_size=4), min_size=1, max_size=3),
)
@settings(max_examples=300, deadline=None)
def test_text_ends_before_the_stop_string_that_is_complete_first(
    tokenizer: Tokenizer, text: str, stops: list[str]
) -> None:
    stream = TextStream(tokenizer, tuple(stops))
    shown = ""
    for token in tokenizer.encode(text, add_special_tokens=False).ids:
        shown += stream.push(token)
        assert not any(stop in shown for stop in stops)
        if stream.stopped:
            break
    shown += stream.finish()
    found = [(text.index(stop) + len(stop), text.index(stop)) for stop in stops if stop in text]
    assert shown == (text[: min(found)[1]] if found else text)
    assert stream.stopped == bool(found)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"max_tokens": 0}, "MAX_TOKENS"),
        ({"max_tokens": -5}, "MAX_TOKENS"),
        ({"max_tokens": 10**9}, "MAX_TOKENS"),
        ({"visual_tokens": 0}, "VISUAL_TOKENS"),
        ({"visual_tokens": 51}, "VISUAL_TOKENS"),
        ({"temperature": -0.1}, "TEMPERATURE"),
        ({"temperature": float("nan")}, "TEMPERATURE"),
        ({"temperature": float("inf")}, "TEMPERATURE"),
        ({"top_p": 0.0}, "TOP_P"),
        ({"top_p": float("nan")}, "TOP_P"),
        ({"top_k": -1}, "TOP_K"),
        ({"stop": ("",)}, "STOP"),
        ({"stop": ("x",) * 17}, "STOP"),
        ({"stop": ("x" * 2000,)}, "STOP"),
    ],
)
def test_options_out_of_range_are_refused_by_name(change: dict[str, object], name: str) -> None:
    values: dict[str, object] = {"max_tokens": 8, "visual_tokens": 4, **change}
    with pytest.raises(OptionError, match=name):
        GenerationOptions(**values).check(max_tokens=100, max_visual_tokens=50)  # type: ignore[arg-type]


def test_stop_strings_must_be_utf8() -> None:
    assert decode_stop([b"a", "ä".encode()]) == ("a", "ä")
    with pytest.raises(OptionError, match="UTF-8"):
        decode_stop([b"\xff"])
