"""Users' own Python models on a real tritonserver: as they are, and with packages of their own."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from builder.cli import main
from builder.publish.manifest import read_manifest, sha256
from builder.serve import TritonServer

Serve = Callable[..., TritonServer]

EXAMPLES = Path(__file__).parents[2] / "examples" / "python"
OWN = f"{sys.version_info.major}.{sys.version_info.minor}"


def builder(*arguments: object) -> int:
    """The command line, in this process: its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["builder", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
    return int(ended.value.code or 0)


def hashes(folder: Path) -> dict[str, str]:
    """Of every file, but for those that a running server's Python writes."""
    return {
        str(path.relative_to(folder)): sha256(path)
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@dataclass(frozen=True)
class Built:
    """Two examples, built one after the other into one folder, and served.

    Attributes:
        repository: The folder.
        first: Its model's hashes before the second build.
        second: The spec of the model with packages of its own.
        server: The running server.
    """

    repository: Path
    first: dict[str, str]
    second: Path
    server: TritonServer


@pytest.fixture(scope="module")
def built(serve_repository: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    root = tmp_path_factory.mktemp("python")
    out = root / "repository"
    options = ("--output", out, "--cache", root / "cache", "--no-report")
    assert builder("build", EXAMPLES / "labels.yaml", *options) == 0
    first = hashes(out / "labels")
    text = (EXAMPLES / "plural.yaml").read_text()
    second = root / "plural.yaml"
    second.write_text(
        text.replace("plural/", f"{EXAMPLES / 'plural'}/").replace('"3.11"', f'"{OWN}"')
        + "model: {instances: {count: 2}}\n"
    )
    assert builder("build", second, *options) == 0
    with serve_repository(out) as server:
        yield Built(out, first, second, server)


def labels(server: TritonServer, scores: list[list[float]]) -> list[bytes]:
    values = np.array(scores, np.float32)
    tensor = grpc.InferInput("SCORES", values.shape, "FP32").set_data_from_numpy(values)
    return list(server.client.infer("labels", [tensor]).as_numpy("LABEL")[:, 0])


def plurals(server: TritonServer, *words: str) -> list[bytes]:
    values = np.array([word.encode() for word in words], np.object_)
    tensor = grpc.InferInput("WORDS", values.shape, "BYTES").set_data_from_numpy(values)
    return list(server.client.infer("plural", [tensor]).as_numpy("PLURALS"))


def test_it_serves_with_the_files_beside_it(built: Built) -> None:
    assert labels(built.server, [[0, 1, 2], [5, 1, 0]]) == [b"positive", b"negative"]
    with pytest.raises(InferenceServerException, match="SCORES has 2 a row, not 3"):
        labels(built.server, [[0, 1]])


def test_packages_that_the_server_lacks_go_with_the_model(built: Built) -> None:
    assert importlib.util.find_spec("inflection") is None
    assert plurals(built.server, "octopus", "person") == [b"octopi", b"people"]
    assert "inflection" not in (built.repository / "requirements.txt").read_text()


def test_the_second_build_left_the_first_as_it_was(built: Built) -> None:
    assert hashes(built.repository / "labels") == built.first
    assert set(read_manifest(built.repository).members) == {"labels", "plural"}


def test_a_wrong_data_type_is_refused(
    built: Built, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = hashes(built.repository)
    spec = tmp_path / "plural.yaml"
    spec.write_text(built.second.read_text().replace("STRING", "TYPE_STRING", 1))
    assert builder("build", spec, "--output", built.repository) == 2
    (sentence,) = capsys.readouterr().err.strip().splitlines()
    assert "inputs.0.data_type: 'TYPE_STRING' is called STRING here" in sentence
    assert hashes(built.repository) == before


def test_each_version_has_its_own_environment(
    built: Built, serve_repository: Serve, tmp_path: Path
) -> None:
    """The second version has another package, and rolled back, the first has what it had."""
    out, cache = tmp_path / "repository", built.repository.with_name("cache")
    options = ("--output", out, "--cache", cache, "--no-report")
    assert builder("build", built.second, *options) == 0
    first = hashes(out / "plural" / "1")
    model = tmp_path / "model.py"
    source = (EXAMPLES / "plural" / "model.py").read_text()
    model.write_text(source.replace("import inflection", "import six as inflection").replace(
        "inflection.pluralize(word.decode())", "inflection.ensure_str(word).upper()"
    ))  # fmt: skip
    (tmp_path / "needs.txt").write_text("six==1.17.0\n")
    spec = tmp_path / "next.yaml"
    folder = EXAMPLES / "plural"
    spec.write_text(
        built.second.read_text()
        .replace(f"{folder}/requirements.txt", "needs.txt")
        .replace(f"{folder}/", "model.py")
    )
    assert builder("build", spec, *options, "--version", "next") == 0
    assert hashes(out / "plural" / "1") == first
    assert "DIRECTORY/2/env.tar.gz" in (out / "plural" / "config.pbtxt").read_text()
    with serve_repository(out) as server:
        assert plurals(server, "octopus") == [b"OCTOPUS"]
    assert builder("rollback", "plural", out) == 0
    assert "DIRECTORY/1/env.tar.gz" in (out / "plural" / "config.pbtxt").read_text()
    with serve_repository(out) as server:
        assert plurals(server, "octopus") == [b"octopi"]
