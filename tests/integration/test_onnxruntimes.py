"""What the shipped specs build for a release is loaded by the ONNX Runtime of that release.

    pytest -m slow -s tests/integration/test_onnxruntimes.py

installs each ONNX Runtime into an environment of its own (pip, 200 MB each while it is used),
builds every shipped spec for every release below, and prints the table of `docs/releases.md`.
"""

import json
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.publish.manifest import read_manifest
from builder.releases import release_of

ROOT = Path(__file__).resolve().parents[2]
SPECS = ("arr_coc", "digits", "minilm")
RELEASES = ("24.10", "25.03", "25.08", "26.02", "26.07")

_LOAD = """
import json, sys
import onnxruntime as ort
options = ort.SessionOptions()
options.log_severity_level = 4
found = {}
for path in sys.argv[1:]:
    try:
        ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        found[path] = ""
    except Exception as error:
        found[path] = str(error)
print(json.dumps({"version": ort.__version__, "errors": found}))
"""


@pytest.fixture(scope="module")
def python_with(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`python_with(version)`: an interpreter that has this ONNX Runtime and numpy, nothing else."""

    def make(version: str) -> Path:
        folder = tmp_path_factory.mktemp(f"onnxruntime-{version}")
        venv.create(folder, with_pip=True)
        python = folder / "bin" / "python"
        command = [str(python), "-m", "pip", "install", "--quiet", f"onnxruntime=={version}"]
        subprocess.run(command, check=True)
        return python

    return make


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("release", RELEASES)
def test_the_releases_onnx_runtime_loads_every_file(
    release: str, python_with: Callable[[str], Path], tmp_path: Path
) -> None:
    files = []
    for spec in SPECS:
        output = tmp_path / spec
        command = [sys.executable, "-m", "builder", "build", f"specs/{spec}.yaml"]
        command += ["--release", release, "--output", str(output), "--no-report"]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        assert read_manifest(output).only.spec["triton_release"] == release
        files += sorted(output.rglob("*.onnx"))
    version = release_of(release).onnxruntime
    command = [str(python_with(version)), "-c", _LOAD, *map(str, files)]
    loaded = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert loaded["version"] == version
    refused = {path: error for path, error in loaded["errors"].items() if error}
    print(f"\n| {release} | {version} | {len(files) - len(refused)} of {len(files)} |")
    assert len(files) >= 2 * len(SPECS)
    assert not refused
