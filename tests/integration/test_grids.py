"""Several grids and several pictures on a real tritonserver, against plain torch."""

import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from tritonclient.grpc import InferInput
from tritonclient.utils import np_to_triton_dtype
from typer.testing import CliRunner

from builder.arr_coc.reference import Reference, ReferenceAnswer
from builder.arr_coc.source import load_checkpoint
from builder.build import Build
from builder.cli.ask import ask as ask_command
from builder.serve import TritonServer
from builder.spec.models import Spec
from clients import Answer, AnswerError, GenerationOptions, Question, answer
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
    """A pipeline with several grids, its reference, and what it is asked."""

    server: TritonServer
    reference: Reference
    cases: list["Case"]
    wanted: list[ReferenceAnswer]

    def ask(self, images: Sequence[bytes], text: str) -> Answer:
        chosen = GenerationOptions(max_tokens=TOKENS)
        return answer(self.server.grpc_url, Question(images, text, chosen), timeout=120)


PICTURES = {
    "square": ("astronaut.png", (0.0, 0.0, 1.0, 1.0)),
    "wide": ("coffee.png", (0.0, 0.2, 1.0, 0.9)),
    "tall": ("chelsea.png", (0.3, 0.0, 0.6, 1.0)),
}


@dataclass(frozen=True)
class Case:
    """A question about pictures, and the grid that fits their mean aspect ratio."""

    pictures: tuple[str, ...]
    question: str
    grid: tuple[int, int]

    @property
    def images(self) -> list[bytes]:
        return [cropped(*PICTURES[name]) for name in self.pictures]


ONE = [
    Case((name,), question, grid)
    for question in QUESTIONS
    for name, grid in zip(PICTURES, GRIDS, strict=True)
]
SEVERAL = [
    Case(("wide", "wide"), QUESTIONS[0], (3, 6)),
    Case(("tall", "square", "tall"), QUESTIONS[0], (6, 3)),
    Case(("wide", "tall"), QUESTIONS[0], (4, 4)),
    Case(("tall", "wide"), QUESTIONS[0], (4, 4)),
]


@pytest.fixture(
    scope="module",
    params=[
        ("qwen3_vl", 3, "after_vision"),
        pytest.param(("qwen2_vl", 1, "after_vision"), marks=pytest.mark.slow),
        pytest.param(("qwen2_vl", 3, "before_vision"), marks=pytest.mark.slow),
    ],
    ids=["three-pictures", "one-picture", "three-pictures-pruned"],
)
def served(
    request: pytest.FixtureRequest,
    serve_repository: Serve,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Served]:
    family, most, prune = request.param
    folder = tmp_path_factory.mktemp("grids")
    make_checkpoint(folder / "checkpoint", seed=2, family=family)  # its answers differ
    first, *others = ({"rows": rows, "cols": cols} for rows, cols in GRIDS)
    batching = {"max_batch_size": 4, "dynamic_batching": {"max_queue_delay_microseconds": 2000}}
    spec = Spec.model_validate(
        {
            "name": "arr_coc",
            "checkpoint": {"path": "checkpoint"},
            "grid": first,
            "grids": others,
            "kept_tokens": 7,
            "max_pictures": most,
            "prune": prune,
            "stages": {
                "vision": batching,
                "relevance": batching,
                "language": {"max_sequence_length": 256},
            },
            "verify": {"batch_sizes": [2]},
        }
    )
    report = Build(spec, folder / "spec.yaml", folder / "repository", Steps()).run()
    assert all(row.passed for row in report.parity)
    assert {(f"{rows}x{cols}") for rows, cols in GRIDS} == {
        row.tensor.partition("(")[2][:3] for row in report.parity if row.artifact == "vision"
    }
    reference = Reference(spec, load_checkpoint(spec.checkpoint, folder))
    cases = ONE if most == 1 else [*ONE[:3], *SEVERAL]
    wanted = [reference.answer(case.images, case.question, TOKENS) for case in cases]
    with serve_repository(folder / "repository") as server:
        yield Served(server, reference, cases, wanted)


def assert_same(got: Answer, reference: ReferenceAnswer) -> None:
    assert list(got.token_ids) == reference.token_ids
    assert got.text == reference.text
    assert got.kept_indices.tolist() == reference.kept_indices.tolist()
    assert got.usage.prompt_tokens == reference.prompt_tokens
    np.testing.assert_allclose(got.relevance_map, reference.relevance, rtol=0, atol=1e-6)


def test_the_grid_that_fits_and_the_reference_s_answer(served: Served) -> None:
    assert len({tuple(wanted.token_ids) for wanted in served.wanted}) == len(served.wanted)
    for case, wanted in zip(served.cases, served.wanted, strict=True):
        got = served.ask(case.images, case.question)
        rows, cols = case.grid
        assert got.relevance_map.shape == (rows * len(case.pictures), cols)
        assert_same(got, wanted)


def test_mixed_requests_at_once(served: Served) -> None:
    """Mixed first, then one shape after the other."""

    def shape(i: int) -> tuple[object, ...]:
        return served.cases[i].grid, len(served.cases[i].pictures)

    many = list(range(len(served.cases))) * 4
    many += sorted(many, key=shape)
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(
            lambda i: served.ask(served.cases[i].images, served.cases[i].question), many
        )
        for i, got in zip(many, answers, strict=True):
            assert_same(got, served.wanted[i])


def raw_inputs(served: Served, rows: int, cols: int) -> list[InferInput]:
    """Black pixels of one picture, for the vision model itself."""
    cell = served.reference.source.facts.cell_size
    several = (1,) if served.reference.spec.max_pictures > 1 else ()
    shape = (1, *several, rows * cell, cols * cell, 3)
    arrays = {"pixels": np.zeros(shape, dtype=np.uint8)}
    if served.reference.spec.prune == "before_vision":
        arrays["kept_indices"] = np.arange(7, dtype=np.int32)[None]
    inputs = []
    for name, array in arrays.items():
        inputs.append(InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype)))
        inputs[-1].set_data_from_numpy(array)
    return inputs


def test_requests_of_one_grid_share_a_run(served: Served) -> None:
    client = served.server.client

    def counts() -> tuple[int, int]:
        stats = client.get_inference_statistics("vision", as_json=True)["model_stats"][0]
        return int(stats["execution_count"]), int(stats["inference_count"])

    runs, rows = counts()
    inputs = raw_inputs(served, *GRIDS[1])
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: client.infer("vision", inputs), range(48)))
    more_runs, more_rows = counts()
    assert more_rows - rows == 48
    assert more_runs - runs < 48


def test_a_shape_that_is_no_grid_is_refused_and_the_next_request_works(served: Served) -> None:
    """Below preprocess: raw pixels to the vision model, with as many pixels as a grid has."""
    inputs = raw_inputs(served, 2, 8)
    cell = served.reference.source.facts.cell_size
    known = " or ".join(f"{rows * cell}x{cols * cell}x3" for rows, cols in GRIDS)
    for _ in range(2):
        with pytest.raises(Exception, match=f"pixels must be {known}"):
            served.server.client.infer("vision", inputs)
    case = served.cases[0]
    assert_same(served.ask(case.images, case.question), served.wanted[0])


def test_a_picture_that_is_refused_is_named_by_its_place(served: Served) -> None:
    most = served.reference.spec.max_pictures
    if most == 1:
        pytest.skip("one picture is IMAGE itself")
    good = cropped(*PICTURES["wide"])
    for images, sentence in (
        ([good, b"some text", good], "IMAGE 2 of 3 is not a readable picture"),
        ([good] * (most + 1), f"IMAGE has {most + 1} pictures; a request takes 1 to {most}"),
        ([], f"IMAGE has no pictures; a request takes 1 to {most}"),
    ):
        with pytest.raises(AnswerError, match=sentence) as caught:
            served.ask(images, QUESTIONS[0])
        assert caught.value.status == "INVALID_ARGUMENT"
    case = served.cases[0]
    assert_same(served.ask(case.images, case.question), served.wanted[0])


def test_ask_draws_a_heat_map_of_each_picture(served: Served, tmp_path: Path) -> None:
    case = served.cases[-1]
    paths = [tmp_path / f"{i}.png" for i in range(len(case.pictures))]
    for path, image in zip(paths, case.images, strict=True):
        path.write_bytes(image)
    app = typer.Typer()
    app.command()(ask_command)
    arguments = [paths[0], case.question, "--url", served.server.grpc_url, "--max-tokens", TOKENS]
    for path in paths[1:]:
        arguments += ["--image", path]
    result = CliRunner().invoke(
        app, [str(a) for a in (*arguments, "--heatmap", tmp_path / "map.png")]
    )
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(served.wanted[-1].text)
    drawn = sorted(path.name for path in tmp_path.glob("map*.png"))
    assert drawn == (["map.png"] if len(paths) == 1 else ["map-1.png", "map-2.png"])
