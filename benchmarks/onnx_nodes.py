"""ONNX's own node models as users' files: built and served equal, or refused in one sentence.

    python -m benchmarks.onnx_nodes [--count 300] [--seed 21] [--output FILE.json]

The onnx package makes a model for every operator and case of its own backend test, with inputs. A
seeded choice of them goes through what `builder init` and `builder build` do;
those that build are served, in groups, and asked with ONNX's inputs.
"""

import argparse
import json
import random
import resource
import shutil
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases
from tritonclient import grpc
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from builder.build import Build
from builder.errors import BuilderError
from builder.onnx_models.describe import spec_text
from builder.progress import Progress
from builder.serve import TritonServer
from builder.spec.load import load_any_spec
from builder.spec.onnx_file import OnnxSpec

GROUP = 25
"""Models of one server: each instance is a process here."""

Arrays = dict[str, NDArray[Any]]


class _Steps(Progress):
    """A build's progress, not shown."""


@dataclass
class Outcome:
    """What became of one model.

    Attributes:
        name: Of its folder.
        state: `built`, `refused in init`, `refused in build`, or the class of what escaped.
        sentence: What a user reads.
        seconds: Of init and build.
        served: `equal`, `differs`, or what the server said; empty: not served.
    """

    name: str
    state: str = "built"
    sentence: str = ""
    seconds: float = 0.0
    served: str = ""


def chosen(count: int, seed: int) -> list[Any]:
    """A seeded choice of the node models: test cases with `name`, `model` and `data_sets`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # operators of numpy's that overflow on purpose
        every = sorted(collect_testcases(None), key=lambda case: str(case.name))
    return sorted(random.Random(seed).sample(every, count), key=lambda case: str(case.name))


def build(case: Any, work: Path) -> Outcome:
    """Init and build of one model; its repository lies in `work / "repository"`."""
    outcome = Outcome(case.name)
    path = work / "model.onnx"
    path.write_bytes(case.model.SerializeToString())
    begun, step = time.monotonic(), "init"
    try:
        text = spec_text(path, case.name, "model.onnx")
        step = "build"
        (work / "spec.yaml").write_text(text)
        spec = load_any_spec(work / "spec.yaml")
        assert isinstance(spec, OnnxSpec)
        Build(spec, work / "spec.yaml", work / "repository", _Steps()).run()
    except BuilderError as error:
        outcome.state, outcome.sentence = f"refused in {step}", str(error)
    except Exception as error:
        outcome.state, outcome.sentence = type(error).__name__, str(error)
    outcome.seconds = round(time.monotonic() - begun, 2)
    return outcome


def _wanted(model: Any, inputs: Arrays, names: Sequence[str]) -> list[NDArray[Any]]:
    """What ONNX Runtime gives by itself: ONNX's outputs of some operators are random or rounded."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    data = model.SerializeToString()
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return [np.asarray(value) for value in session.run(list(names), inputs)]


def _sent(name: str, value: NDArray[Any]) -> grpc.InferInput:
    array = value.reshape(1) if value.ndim == 0 else value
    if array.dtype.kind in "US":
        array = array.astype(object)
    made = grpc.InferInput(name, array.shape, np_to_triton_dtype(array.dtype))
    made.set_data_from_numpy(array)
    return made


def _same(found: NDArray[Any], wanted: NDArray[Any]) -> bool:
    if wanted.dtype.kind in "OUS":
        texts = [value.decode() for value in found.reshape(-1)]
        return texts == [str(value) for value in wanted.reshape(-1)]
    near = np.allclose(found.reshape(wanted.shape), wanted, rtol=1e-3, atol=1e-5, equal_nan=True)
    return bool(near)


def ask(client: Any, case: Any) -> str:
    """`equal`, or what is wrong."""
    given = next(iter(case.data_sets))[0]
    inputs = {}
    for value, array in zip(case.model.graph.input, given, strict=False):
        # Some cases hold a tensor as ONNX writes it.
        plain = isinstance(array, np.ndarray | np.generic)
        inputs[value.name] = np.asarray(array if plain else numpy_helper.to_array(array))
    config = client.get_model_config(case.name, as_json=True)["config"]
    outputs = [output["name"] for output in config["output"]]
    wanted = _wanted(case.model, inputs, outputs)
    try:
        result = client.infer(case.name, [_sent(*item) for item in inputs.items()])
    except InferenceServerException as error:
        return f"error: {error.message()}"
    for name, value in zip(outputs, wanted, strict=True):
        if not _same(result.as_numpy(name), value):
            return f"differs: {name}"
    return "equal"


def serve(group: Sequence[tuple[Outcome, Any, Path]], repository: Path) -> None:
    """Serve some models and ask each of them."""
    for outcome, _, folder in group:
        shutil.move(folder / "repository" / outcome.name, repository / outcome.name)
    with TritonServer(repository) as server:
        for outcome, case, _ in group:
            try:
                outcome.served = ask(server.client, case)
            except Exception as error:
                outcome.served = f"{type(error).__name__}: {error}"


def main() -> None:
    """Run, print the counts, write them where asked."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=21)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as scratch:
        built = []
        for case in chosen(arguments.count, arguments.seed):
            work = Path(scratch) / case.name
            work.mkdir()
            outcomes.append(build(case, work))
            if outcomes[-1].state == "built":
                built.append((outcomes[-1], case, work))
            print(outcomes[-1].name, outcomes[-1].state, outcomes[-1].sentence[:150], flush=True)
        for start in range(0, len(built), GROUP):
            repository = Path(scratch) / f"served-{start}"
            repository.mkdir()
            try:
                serve(built[start : start + GROUP], repository)
            except BuilderError as error:
                for outcome, *_ in built[start : start + GROUP]:
                    outcome.served = outcome.served or f"no server: {error}"
            shutil.rmtree(repository)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (1 << 20)
    counts: dict[str, int] = {}
    for outcome in outcomes:
        for key in (outcome.state, f"served {outcome.served.partition(':')[0]}".strip()):
            counts[key] = counts.get(key, 0) + 1
    summary = {
        "seed": arguments.seed,
        "models": len(outcomes),
        "counts": counts,
        "longest_seconds": max(outcome.seconds for outcome in outcomes),
        "peak_gib_of_a_process": round(peak, 2),
    }
    print(json.dumps(summary, indent=2))
    if arguments.output:
        rows = [asdict(outcome) for outcome in outcomes]
        arguments.output.write_text(json.dumps({**summary, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
