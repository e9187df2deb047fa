"""Pictures are prepared as a checkpoint's own image processor prepares them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
from transformers import (
    AutoModel,
    AutoProcessor,
    CLIPImageProcessorPil,
    ConvNextImageProcessorPil,
    DeiTImageProcessorPil,
    ViTImageProcessorPil,
    pipeline,
)

from builder.errors import CheckpointError, SpecError
from builder.runtime.models.classify.scores import ranked, scores
from builder.runtime.models.match.vectors import TextVectors, picture_scores
from builder.runtime.models.pixels.resize import fit
from builder.tasks.pictures import Colours, Preparation, _sizes
from examples.tiny.tasks import IMAGE_MODELS, labels, save_clip, save_image_model

from .conftest import kind, run

SQUARE = {"height": 24, "width": 20}
PROCESSORS = {
    "resized": lambda: ViTImageProcessorPil(size=SQUARE, resample=3),
    "resized, cropped": lambda: DeiTImageProcessorPil(
        size={"height": 30, "width": 29}, crop_size=SQUARE
    ),
    "shorter side, cropped": lambda: CLIPImageProcessorPil(
        size={"shortest_edge": 21}, crop_size=SQUARE
    ),
    "cropped by a share": lambda: ConvNextImageProcessorPil(
        size={"shortest_edge": 20}, crop_pct=0.9
    ),
    "not resized": lambda: CLIPImageProcessorPil(do_resize=False, crop_size=SQUARE),
    "not normalized": lambda: ViTImageProcessorPil(size=SQUARE, do_normalize=False),
    "not rescaled": lambda: ViTImageProcessorPil(size=SQUARE, do_rescale=False),
}


@pytest.mark.parametrize("name", PROCESSORS)
@settings(deadline=None, max_examples=25)
@given(height=st.integers(1, 90), width=st.integers(1, 90), seed=st.integers(0, 9))
def test_pixels_are_those_of_the_processor(name: str, height: int, width: int, seed: int) -> None:
    processor = PROCESSORS[name]()
    if max(height, width) > 40 * min(height, width):
        return  # a side would round to nothing
    prepared = Preparation(
        sizes=_sizes(processor, "x"),
        scale=float(processor.rescale_factor) if processor.do_rescale else 1.0,
        mean=tuple(processor.image_mean) if processor.do_normalize else (0.0,) * 3,
        std=tuple(processor.image_std) if processor.do_normalize else (1.0,) * 3,
        processor=processor,
    )
    random = np.random.default_rng(seed)
    image = Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))
    pixels = fit(image, prepared.sizes)
    assert pixels.dtype == np.uint8
    found = Colours(prepared)(torch.from_numpy(pixels.copy())[None])
    wanted = prepared.values(image)
    assert found.shape == wanted.shape
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4, check_dtype=False)


def test_pictures_of_no_fixed_size_are_refused() -> None:
    processor = CLIPImageProcessorPil(size={"shortest_edge": 21}, do_center_crop=False)
    with pytest.raises(CheckpointError, match="no fixed size"):
        _sizes(processor, "x")


def test_a_processor_that_does_more_is_refused(tmp_path: Path) -> None:
    folder = save_image_model(tmp_path / "vit", "vit", **labels("cat", "dog"))
    path = folder / "preprocessor_config.json"
    values = {"image_processor_type": "EfficientNetImageProcessor", "rescale_offset": True}
    path.write_text(json.dumps({**values, "size": {"height": 32, "width": 32}}))
    with pytest.raises(CheckpointError, match=r"EfficientNet.*does more than resize, crop"):
        kind(folder, "image-classification")


def test_no_image_processor(tmp_path: Path) -> None:
    folder = save_image_model(tmp_path / "vit", "vit")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no preprocessor_config\.json"):
        kind(folder, "image-classification")


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_image_classification(tmp_path: Path, name: str) -> None:
    folder = save_image_model(tmp_path / name, name, **labels("cat", "dog", "cup"))
    made = kind(folder, "image-classification", top_k=2)
    (graph,) = made.graphs()
    reference = pipeline("image-classification", model=str(folder), top_k=2)
    random = np.random.default_rng(1)
    images = [Image.fromarray(random.integers(0, c, (50, 70, 3), np.uint8)) for c in (40, 256)]
    pixels = np.stack([fit(image, made.preparation.sizes) for image in images])
    (raw,) = run(graph, {"pixels": pixels})
    places, values = ranked(scores(raw, "softmax"), 2)
    for row, image in enumerate(images):
        wanted = reference(image)
        names = [made.files.config.id2label[place] for place in places[row]]
        assert names == [entry["label"] for entry in wanted]
        np.testing.assert_allclose(values[row], [e["score"] for e in wanted], atol=1e-4)
    assert float(np.abs(raw[0] - raw[1]).max()) > 0.1


def test_zero_shot(tmp_path: Path) -> None:
    folder = save_clip(tmp_path / "clip")
    made = kind(folder, "zero-shot-image-classification")
    pictures, texts = made.graphs()
    model, processor = AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    random = np.random.default_rng(1)
    image = Image.fromarray(random.integers(0, 256, (50, 70, 3), np.uint8))
    sentences = ["a photo of a cat", "Berlin", "the largest city of Switzerland"]
    with torch.inference_mode():
        inputs = processor(text=sentences, images=image, return_tensors="pt", padding=True)
        wanted = model(**inputs).logits_per_image.softmax(-1)[0].numpy()
    pixels = fit(image, made.preparation.sizes)[None]
    ((picture,),) = run(pictures, {"pixels": pixels})
    (vectors,) = run(texts, made.encoder().tensors(sentences))
    scale = float(model.logit_scale.detach().exp())
    np.testing.assert_allclose(picture_scores(picture, vectors, scale), wanted, atol=1e-5)
    assert float(np.ptp(wanted)) > 0.01


def test_relatives_of_clip_are_refused(tmp_path: Path) -> None:
    config = {"model_type": "chinese_clip", "architectures": ["ChineseCLIPModel"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"a 'chinese_clip' model.* from clip"):
        kind(tmp_path, "zero-shot-image-classification")


def test_a_text_is_embedded_once() -> None:
    calls: list[list[str]] = []

    def embed(texts: list[str]) -> Any:
        calls.append(texts)
        return np.array([[len(text)] for text in texts], dtype=np.float32)

    vectors = TextVectors(embed, 3)
    assert {k: float(v[0]) for k, v in vectors.of(["aa", "b", "aa"]).items()} == {"aa": 2, "b": 1}
    assert set(vectors.of(["b", "aa"])) == {"aa", "b"}
    assert calls == [["aa", "b"]]
    assert len(vectors.of(["b", "cccc", "ddddd", "ee"])) == 4, "more than are kept"
    assert calls[1:] == [["cccc", "ddddd", "ee"]]
    vectors.of(["aa"])
    assert calls[2:] == [["aa"]], "what was used least lately is forgotten"
    vectors.of(["ddddd"])
    assert len(calls) == 3


@pytest.mark.parametrize("template", ["a photo", "{} and {}"])
def test_a_template_has_one_place(tmp_path: Path, template: str) -> None:
    with pytest.raises((SpecError, ValidationError), match=r"exactly one \{\}"):
        kind(tmp_path, "zero-shot-image-classification", zero_shot={"template": template})
