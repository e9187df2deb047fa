"""Several grids on a real tritonserver: pictures of any aspect ratio, against plain torch."""

import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tritonclient.grpc import InferInput

from builder.arr_coc.checkpoint import load_checkpoint
from builder.arr_coc.reference import Reference, ReferenceAnswer
from builder.build import Build
from builder.serve import TritonServer
from builder.spec.models import Spec
from clients import Answer, GenerationOptions, Question, answer
from examples.tiny.make_checkpoint import make_checkpoint
from tests.integration.conftest import Steps

Serve = Callable[..., TritonServer]

TOKENS = 10
GRIDS = ((4, 4), (3, 6), (6, 3))
QUESTIONS = ("What colour is the cup?", "How many are there?")


def cropped(name: str, box: tuple[float, float, float, float]) -> bytes:
    """A part of a photo that ships with scikit-image; the box is in shares of its sides."""
    with Image.open(io.BytesIO((files("skimage") / "data" / name).read_bytes())) as photo:
        width, height = photo.size
        part = photo.crop((*(round(s * t) for s, t in zip(box, (width, height) * 2, strict=True)),))
        buffer = io.BytesIO()
        part.save(buffer, "PNG")
    return buffer.getvalue()


@dataclass(frozen=True)
class Served:
    """A pipeline with several grids, and its reference."""

    server: TritonServer
    reference: Reference

    def ask(self, image: bytes, text: str, **options: Any) -> Answer:
        chosen = GenerationOptions(max_tokens=TOKENS, **options)
        return answer(self.server.grpc_url, Question(image, text, chosen), timeout=120)


@pytest.fixture(scope="module")
def served(serve_repository: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("grids")
    make_checkpoint(folder / "checkpoint", seed=1)
    first, *others = ({"rows": rows, "cols": cols} for rows, cols in GRIDS)
    batching = {"max_batch_size": 4, "dynamic_batching": {"max_queue_delay_microseconds": 2000}}
    spec = Spec.model_validate(
        {
            "name": "arr_coc",
            "checkpoint": {"path": "checkpoint"},
            "grid": first,
            "grids": others,
            "kept_tokens": 7,
            "stages": {
                "vision": batching,
                "relevance": batching,
                "language": {"max_sequence_length": 256},
            },
            "verify": {"batch_sizes": [1, 3]},
        }
    )
    report = Build(spec, folder / "spec.yaml", folder / "repository", Steps()).run()
    assert all(row.passed for row in report.parity)
    tensors = {row.tensor for row in report.parity if row.artifact == "vision"}
    assert tensors == {f"image_embeds ({rows}x{cols})" for rows, cols in GRIDS}
    with serve_repository(folder / "repository") as server:
        yield Served(server, Reference(spec, load_checkpoint(spec.checkpoint, folder)))


PICTURES = {
    (4, 4): ("astronaut.png", (0.0, 0.0, 1.0, 1.0)),
    (3, 6): ("coffee.png", (0.0, 0.2, 1.0, 0.9)),
    (6, 3): ("chelsea.png", (0.3, 0.0, 0.6, 1.0)),
}
CASES = [(grid, question) for question in QUESTIONS for grid in GRIDS]


@pytest.fixture(scope="module")
def wanted(served: Served) -> list[ReferenceAnswer]:
    return [
        served.reference.answer(cropped(*PICTURES[grid]), question, TOKENS)
        for grid, question in CASES
    ]


def assert_same(got: Answer, reference: ReferenceAnswer) -> None:
    assert list(got.token_ids) == reference.token_ids
    assert got.text == reference.text
    assert got.kept_indices.tolist() == reference.kept_indices.tolist()
    assert got.usage.prompt_tokens == reference.prompt_tokens
    np.testing.assert_allclose(got.relevance_map, reference.relevance, rtol=0, atol=1e-6)


def test_each_picture_gets_its_grid_and_the_reference_s_answer(
    served: Served, wanted: list[ReferenceAnswer]
) -> None:
    assert len({tuple(w.token_ids) for w in wanted}) == len(wanted)
    for (grid, question), reference in zip(CASES, wanted, strict=True):
        got = served.ask(cropped(*PICTURES[grid]), question)
        assert got.relevance_map.shape == grid
        assert_same(got, reference)


def test_mixed_grids_at_once(served: Served, wanted: list[ReferenceAnswer]) -> None:
    """Mixed first, then one grid after the other: neighbours of one grid share a run."""
    many = list(range(len(CASES))) * 4
    many += sorted(many, key=lambda i: CASES[i][0])
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda i: served.ask(cropped(*PICTURES[CASES[i][0]]), CASES[i][1]), many)
        for i, got in zip(many, answers, strict=True):
            assert_same(got, wanted[i])
    stats = served.server.client.get_inference_statistics("vision", as_json=True)
    vision = stats["model_stats"][0]
    assert int(vision["execution_count"]) < int(vision["inference_count"])


def test_a_shape_that_is_no_grid_is_refused_and_the_next_request_works(
    served: Served, wanted: list[ReferenceAnswer]
) -> None:
    """Below preprocess: raw pixels to the vision model, with as many pixels as a grid has."""
    pixels = InferInput("pixels", [1, 56, 224, 3], "UINT8")  # 2 x 8 cells
    pixels.set_data_from_numpy(np.zeros((1, 56, 224, 3), dtype=np.uint8))
    for _ in range(2):
        with pytest.raises(Exception, match="pixels must be 112x112x3 or 84x168x3 or 168x84x3"):
            served.server.client.infer("vision", [pixels])
    grid, question = CASES[0]
    assert_same(served.ask(cropped(*PICTURES[grid]), question), wanted[0])
