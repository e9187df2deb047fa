"""The environment that goes with a model: what is in its archive, and how it is refused."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.cache.store import Store
from builder.progress import Progress
from builder.python_models.environment import Environment, python_of
from builder.python_models.recipe import PythonRecipe
from builder.recipe import Workshop
from builder.spec.python_model import PythonSpec
from tests.unit.python_models.conftest import SPEC

Builder = Callable[..., str]

OWN = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A requirement that needs no registry: a wheel with one module and one command.

    It is called numpy, so that the real one is not installed beside it.
    """
    path = tmp_path_factory.mktemp("wheel") / "numpy-1.26.0-py3-none-any.whl"
    info = "numpy-1.26.0.dist-info"
    files = {
        "numpy.py": "PLURAL = 'words'\ndef main():\n    print('told')\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: numpy\nVersion: 1.26.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\ntinywords = numpy:main\n",
    }
    record = "".join(f"{file},,\n" for file in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(path, "w") as archive:
        for file, content in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(file, content)
    return f"numpy @ {path.as_uri()}"


@pytest.fixture(scope="module")
def archive(line: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packed environment of a model named rules."""
    path = tmp_path_factory.mktemp("packed") / "env.tar.gz"
    Environment("rules", OWN, [line], "python_version").pack(path, lambda _: None)
    return path


def test_an_archive_works_wherever_it_is_unpacked(archive: Path, tmp_path: Path) -> None:
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
        tar.extractall(tmp_path / "moved" / "0", filter="data")
    names = [member.name for member in members]
    assert all(member.isfile() and not member.name.startswith(("/", "..")) for member in members)
    assert {"bin/activate", "bin/tinywords"} < set(names)
    assert f"lib/python{OWN}/site-packages/numpy.py" in names
    assert not any("__pycache__" in name or "/pip/" in name for name in names)
    # Twice, as two instances do, and from elsewhere.
    told = subprocess.run(
        ["bash", "-c", "source moved/0/bin/activate && source moved/0/bin/activate && "
         "python3 -c 'import numpy, sys; print(numpy.PLURAL, sys.prefix)' && tinywords"],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    ).stdout.split()  # fmt: skip
    assert told == ["words", str(tmp_path / "moved" / "0"), "told"]


def test_it_is_packed_once_and_equal_requirements_make_equal_bytes(
    rules: Path, tmp_path: Path, line: str, archive: Path
) -> None:
    spec = PythonSpec.model_validate(
        {
            "name": "rules",
            "python": {
                "path": "rules", "requirements": "r.txt", "environment": True,
                "python_version": OWN,
            },
            "inputs": [{"name": "X", "data_type": "FP32", "dims": [1]}],
            "outputs": [{"name": "Y", "data_type": "FP32", "dims": [1]}],
        }
    )  # fmt: skip
    (tmp_path / "r.txt").write_text(f"{line}\n")
    workshop = Workshop(_Silent(), Store(tmp_path / "cache"))
    recipe = PythonRecipe(spec, tmp_path)
    assert recipe.requirements() == ["numpy>=1.26,<2"]  # the environment has its own
    (artifact,) = recipe.artifacts(["rules"], workshop)
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    assert artifact.take(first) is None
    assert artifact.make(first).rows == []
    assert artifact.take(second) is not None
    assert (second / "env.tar.gz").read_bytes() == archive.read_bytes()
    (tmp_path / "r.txt").write_text(f"{line}\nsix\n")
    (other,) = PythonRecipe(spec, tmp_path).artifacts(["rules"], workshop)
    assert other.take(second) is None


class _Silent(Progress):
    """Shows nothing."""


@pytest.mark.parametrize(("release", "version"), [("24.10", "3.10"), ("24.11", "3.12")])
def test_the_python_is_that_of_the_release(release: str, version: str) -> None:
    spec = {
        "name": "rules",
        "python": {"path": "rules", "requirements": "r.txt", "environment": True},
        "triton_release": release,
        "inputs": [{"name": "X", "data_type": "FP32", "dims": [1]}],
        "outputs": [{"name": "Y", "data_type": "FP32", "dims": [1]}],
    }
    assert python_of(PythonSpec.model_validate(spec)) == version


@pytest.mark.parametrize(
    ("version", "line", "sentence"),
    [
        ("3.99", "six", "rules: its environment needs Python 3.99 (python_version), and this"),
        (
            OWN,
            "tinywords @ file:///nowhere.whl",
            "can't install its requirements for Python",
        ),
    ],
)
def test_what_can_not_be_packed(
    builder: Builder, rules: Path, tmp_path: Path, version: str, line: str, sentence: str
) -> None:
    (tmp_path / "r.txt").write_text(f"{line}\n")
    python = f'rules/, requirements: r.txt, environment: true, python_version: "{version}"}}'
    (tmp_path / "rules.yaml").write_text(SPEC.replace("rules/}", python))
    out = tmp_path / "out"
    assert sentence in builder("build", tmp_path / "rules.yaml", "--output", out, "--no-cache")
    assert not out.exists()


def test_a_server_with_another_python_says_so(archive: Path, tmp_path: Path) -> None:
    """Activated there, the first import that the stub makes, of its version folder, fails."""
    shutil.unpack_archive(archive, tmp_path / "env", filter="data")
    script = tmp_path / "env" / "bin" / "activate"
    script.write_text(script.read_text().replace(f'!= "{OWN}"', '!= "3.9"'))
    done = subprocess.run(
        ["bash", "-c", f"source {script} && python3 -c 'import importlib; "
         'importlib.import_module("1.model")\''],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"this server has {OWN}; build it with python: {{python_version:" in done.stderr
