"""Both families and both orders of the stages on a real tritonserver, against plain torch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from builder.arr_coc.reference import Reference
from builder.arr_coc.source import load_checkpoint
from builder.build import Build
from builder.progress import Progress
from builder.serve import TritonServer
from builder.spec.models import Spec
from clients import GenerationOptions, Question, answer
from examples.tiny.make_checkpoint import make_checkpoint

Serve = Callable[..., TritonServer]

TOKENS = 12
PHOTOS = ("chelsea.png", "coffee.png", "rocket.jpg")
QUESTION = "What colour is the cup?"


class Quiet(Progress):
    """A build's progress, not shown."""


@contextmanager
def served(
    serve: Serve, folder: Path, family: str, prune: str, kept: int
) -> Iterator[tuple[str, Reference]]:
    make_checkpoint(folder / "checkpoint", seed=1, family=family)
    spec = Spec.model_validate(
        {
            "name": "arr_coc",
            "checkpoint": {"path": "checkpoint"},
            "grid": {"rows": 6, "cols": 8},
            "kept_tokens": kept,
            "prune": prune,
            "stages": {"language": {"max_sequence_length": 256}},
            "verify": {"batch_sizes": [1, 3]},
        }
    )
    report = Build(spec, folder / "spec.yaml", folder / "repository", Quiet()).run()
    assert all(row.passed and row.min_cosine >= 0.9999 for row in report.parity)
    with serve(folder / "repository") as server:
        yield server.grpc_url, Reference(spec, load_checkpoint(spec.checkpoint, folder))


@pytest.mark.parametrize(
    ("family", "prune", "kept"),
    [
        ("qwen2_vl", "before_vision", 12),
        ("qwen3_vl", "after_vision", 12),
        ("qwen3_vl", "before_vision", 12),
        ("qwen3_vl", "before_vision", 48),
    ],
)
def test_answers_are_the_reference_s(
    serve_repository: Serve, tmp_path: Path, family: str, prune: str, kept: int
) -> None:
    with served(serve_repository, tmp_path, family, prune, kept) as (url, reference):
        for name in PHOTOS:
            photo = (files("skimage") / "data" / name).read_bytes()
            for visual in (kept, 5):
                wanted = reference.answer(photo, QUESTION, TOKENS, visual)
                options = GenerationOptions(max_tokens=TOKENS, visual_tokens=visual)
                got = answer(url, Question(photo, QUESTION, options), timeout=120)
                assert got.kept_indices.tolist() == wanted.kept_indices.tolist()
                assert list(got.token_ids) == wanted.token_ids
                np.testing.assert_allclose(got.relevance_map, wanted.relevance, rtol=0, atol=1e-6)


def test_all_cells_before_vision_is_after_vision(tmp_path: Path) -> None:
    """The references of both orders agree where nothing is dropped."""
    make_checkpoint(tmp_path, family="qwen3_vl")
    base = {
        "name": "arr_coc",
        "checkpoint": {"path": str(tmp_path)},
        "grid": {"rows": 3, "cols": 4},
        "kept_tokens": 12,
    }
    answers = []
    for prune in ("before_vision", "after_vision"):
        spec = Spec.model_validate({**base, "prune": prune})
        reference = Reference(spec, load_checkpoint(spec.checkpoint, tmp_path))
        photo = (files("skimage") / "data" / PHOTOS[0]).read_bytes()
        answers.append(reference.answer(photo, QUESTION, TOKENS))
    assert answers[0].token_ids == answers[1].token_ids
