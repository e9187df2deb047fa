"""Several pictures in a request: the reference, the graphs and the prompt."""

from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.arr_coc.export.relevance import export_relevance
from builder.arr_coc.export.vision import export_vision
from builder.arr_coc.prompt import PromptFormat
from builder.arr_coc.reference import Reference
from builder.arr_coc.source import load_checkpoint
from builder.errors import CheckpointError
from builder.runtime.models.language.generation import Generation
from builder.runtime.models.language.positions import build_sequence
from builder.runtime.models.preprocess.image import ImageError, check_count, decode_all
from builder.spec.models import Spec
from examples.tiny.make_checkpoint import make_checkpoint
from tests.unit.conftest import photo

FAMILIES = ("qwen2_vl", "qwen3_vl")
GRID = (3, 4)
CELLS = 12
KEPT = 7
PHOTOS = ("chelsea.png", "coffee.png", "astronaut.png")
QUESTION = "Which picture shows a cup?"


@cache
def reference(family: str, prune: str = "after_vision", kept: int = KEPT) -> Reference:
    folder = Path(mkdtemp()) / family
    make_checkpoint(folder, seed=2, family=family)
    spec = Spec.model_validate(
        {
            "name": "pictures",
            "checkpoint": {"path": str(folder)},
            "grid": {"rows": GRID[0], "cols": GRID[1]},
            "kept_tokens": min(kept, CELLS),
            "max_pictures": 3,
            "prune": prune,
            "limits": {"max_query_tokens": 32},
        }
    )
    # More than the spec allows, to keep every token of several pictures.
    spec = spec.model_copy(update={"kept_tokens": kept})
    return Reference(spec, load_checkpoint(spec.checkpoint, Path("/")))


@pytest.mark.parametrize("pictures", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_all_tokens_kept_is_the_base_model(family: str, pictures: int) -> None:
    """Token for token `generate(input_ids, pixel_values)`, prompt and positions its own."""
    kept_all = reference(family, kept=CELLS * pictures)
    images = [photo(name) for name in PHOTOS[:pictures]]
    answer = kept_all.answer(images, QUESTION, max_tokens=12)
    tokenizer, image = kept_all.source.facts.tokenizer, kept_all.source.facts.image_token_id
    content = [{"type": "image"}] * pictures + [{"type": "text", "text": QUESTION}]
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}],
        tokenize=False,
        add_generation_prompt=True,
        add_vision_id=pictures > 1,
    )
    assert ("Picture 3: " in text) == (pictures == 3)
    ids: list[int] = []
    for token in tokenizer(text, add_special_tokens=False).input_ids:
        ids += [token] * (CELLS if token == image else 1)
    input_ids = torch.tensor([ids])
    pixels = kept_all.pixels_of(images)
    values, grids = zip(*(kept_all.patch_values(torch.from_numpy(p)) for p in pixels), strict=True)
    generated = kept_all.source.model.generate(
        input_ids=input_ids,
        attention_mask=torch.ones_like(input_ids),
        pixel_values=torch.cat(values),
        image_grid_thw=torch.cat(grids),
        mm_token_type_ids=(input_ids == image).int(),
        max_new_tokens=12,
        do_sample=False,
    )
    assert generated[0, len(ids) :].tolist() == answer.token_ids
    assert answer.prompt_tokens == len(ids)


def test_the_kept_cells_are_the_most_relevant_of_all_pictures() -> None:
    """Each picture is scored for itself; the K come from all of them."""
    both = reference("qwen2_vl")
    images = [photo(name) for name in PHOTOS]
    answer = both.answer(images, QUESTION, max_tokens=1)
    alone = [both.answer([image], QUESTION, max_tokens=1).relevance for image in images]
    np.testing.assert_allclose(answer.relevance, np.concatenate(alone), rtol=0, atol=1e-12)
    flat = answer.relevance.reshape(-1)
    assert answer.kept_indices.tolist() == np.argsort(-flat, kind="stable")[:KEPT].tolist()
    assert len({int(i) // CELLS for i in answer.kept_indices}) > 1


def run(path: Path, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def noise(source: Reference, batch: int, pictures: int) -> np.ndarray:
    cell = source.source.facts.cell_size
    shape = (batch, pictures, GRID[0] * cell, GRID[1] * cell, 3)
    return np.random.default_rng(pictures).integers(0, 256, shape, dtype=np.uint8)


def test_relevance_graph(tmp_path: Path) -> None:
    wanted = reference("qwen2_vl")
    export_relevance(wanted.source, wanted.spec, tmp_path / "model.onnx")
    prompts = [wanted.prompts.encode(text) for text in (b"What is it?", b"How many cats, where?")]
    queries = [wanted.padded_query(prompt) for prompt in prompts]
    for pictures in (1, 2, 3):
        pixels = noise(wanted, 2, pictures)
        feeds = {
            "pixels": pixels,
            "query_ids": np.concatenate([ids.numpy() for ids, _ in queries]),
            "query_length": np.concatenate([length.numpy() for _, length in queries]),
        }
        kept, relevance = run(tmp_path / "model.onnx", feeds)
        for row, prompt in enumerate(prompts):
            indices, scores = wanted.select(torch.from_numpy(pixels[row]), prompt)
            assert kept[row].tolist() == indices.tolist()
            np.testing.assert_allclose(relevance[row], scores.numpy(), rtol=0, atol=1e-7)


def test_vision_graph_of_kept_cells(tmp_path: Path) -> None:
    """No picture sees another, also where their kept cells share a row.

    The graph of whole pictures is built and compared in `integration/test_grids.py`.
    """
    wanted = reference("qwen3_vl", "before_vision")
    export_vision(wanted.source, wanted.spec, tmp_path / "model.onnx")
    for pictures in (1, 3):
        pixels = noise(wanted, 2, pictures)
        random = np.random.default_rng(0)
        rows = [random.permutation(CELLS * pictures)[:KEPT] for _ in pixels]
        kept = np.stack(rows).astype(np.int32)
        embeds, features = run(tmp_path / "model.onnx", {"pixels": pixels, "kept_indices": kept})
        for row in range(2):
            indices = torch.from_numpy(kept[row])
            seen, layers = wanted.see(torch.from_numpy(pixels[row]), indices)
            assert layers is not None
            np.testing.assert_allclose(embeds[row], seen.numpy(), rtol=1e-3, atol=1e-3)
            np.testing.assert_allclose(features[row], layers.numpy(), rtol=1e-3, atol=1e-3)


@given(
    texts=st.lists(st.integers(1, 5), min_size=2, max_size=5),
    grid=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_positions_are_the_base_models_own(
    texts: list[int], grid: tuple[int, int], data: st.DataObject
) -> None:
    """Also behind a picture of which no cell is kept."""
    source = reference("qwen2_vl").source
    image, cells, pictures = source.facts.image_token_id, grid[0] * grid[1], len(texts) - 1
    indices = st.sets(st.integers(0, cells * pictures - 1), min_size=1)
    kept = np.array(sorted(data.draw(indices)), dtype=np.int32)
    prompt: list[int] = []
    for size in texts:
        prompt += [*([3] * size), image]
    sequence = build_sequence(np.array(prompt[:-1], dtype=np.int32), kept, grid, image, pictures)
    whole = [t for token in prompt[:-1] for t in [token] * (cells if token == image else 1)]
    ids = torch.tensor([whole])
    positions, _ = source.model.model.get_rope_index(
        ids,
        (ids == image).int(),
        image_grid_thw=torch.tensor([[1, 2 * grid[0], 2 * grid[1]]] * pictures),
    )
    visual = np.flatnonzero(np.array(whole) == image)
    keep = sorted({*range(len(whole))} - {*visual.tolist()} | {*visual[kept].tolist()})
    assert sequence.position_ids.tolist() == positions[:, 0, keep].tolist()
    assert sequence.next_position == int(positions.max()) + 1
    assert sequence.input_ids.tolist() == [whole[i] for i in keep]
    # What prompts may share ends where positions begin to depend on a picture.
    opening = Generation.opening(Opened(sequence))  # type: ignore[arg-type]
    assert opening.tolist() == [3] * texts[0]


class Opened:
    """As much of a generation as its opening needs."""

    def __init__(self, sequence: Any) -> None:
        self.sequence = sequence


@pytest.mark.parametrize(("pictures", "count"), [(1, 2), (2, 1), (2, 3), (3, 0)])
def test_a_placeholder_for_each_picture(pictures: int, count: int) -> None:
    with pytest.raises(ValueError, match=f"has {count} image placeholders; exactly"):
        build_sequence(np.array([9] * count), np.array([0]), (2, 2), 9, pictures)


def test_refusals_name_the_picture() -> None:
    good = photo("coffee.png")
    with pytest.raises(ImageError, match="IMAGE has no pictures; a request takes 1 to 3"):
        check_count(0, 3)
    with pytest.raises(ImageError, match="IMAGE has 4 pictures; a request takes 1 to 3"):
        check_count(4, 3)
    with pytest.raises(ImageError, match="IMAGE has 2 pictures; a request takes one"):
        check_count(2, 1)
    with pytest.raises(ImageError, match="IMAGE 2 of 3 is not a readable picture"):
        decode_all([good, b"text", good], 10**7)
    with pytest.raises(ImageError, match="IMAGE 3 of 3 is damaged"):
        decode_all([good, good, photo("rocket.jpg")[:4000]], 10**7)
    with pytest.raises(ImageError, match="IMAGE 1 of 2 is empty"):
        decode_all([b"", good], 10**7)
    with pytest.raises(ImageError, match="IMAGE 2 of 2 has 640 x 427 pixels"):
        decode_all([photo("camera.png"), photo("rocket.jpg")], 270_000)
    with pytest.raises(ImageError, match="the 2 pictures in IMAGE have 480000 pixels together"):
        decode_all([good, good], 479_999)
    assert [image.size for image in decode_all([good, good], 480_000)] == [(600, 400)] * 2


def test_a_template_for_one_picture_alone_is_refused() -> None:
    class Tokenizer:
        chat_template = "x"

        def apply_chat_template(self, messages: Any, **options: Any) -> str:
            *images, text = messages[0]["content"]
            return f"<{text['text']}>" if len(images) == 1 else "only one"

    prompt = PromptFormat.from_tokenizer(Tokenizer())
    assert prompt.prefixes(Tokenizer(), 1) == ["<"]
    with pytest.raises(CheckpointError, match="does not take 2 pictures"):
        prompt.prefixes(Tokenizer(), 2)
