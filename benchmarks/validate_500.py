"""How long `builder validate` takes on a repository of 500 models.

A fifth each of Python models, ONNX models with a config, ONNX models without, ensembles over the
others, and Python models with mistakes. Prints and writes `benchmarks/results/validate.json`: wall
seconds, which other work on the machine lengthens, and CPU seconds, which it hardly does.

    python benchmarks/validate_500.py [--models 500] [--runs 5]
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks._commit import commit
from builder.validate import validate_repository

_RESULTS = Path(__file__).resolve().parent / "results" / "validate.json"
_LIMIT_SECONDS = 3.0

_PYTHON = '''import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Doubles its input."""

    def initialize(self, args):
        self.factor = 2

    def execute(self, requests):
        responses = []
        for request in requests:
            pixels = pb_utils.get_input_tensor_by_name(request, "pixels").as_numpy()
            doubled = pb_utils.Tensor("scores", np.asarray(pixels * self.factor))
            responses.append(pb_utils.InferenceResponse([doubled]))
        return responses
'''

_CONFIG = """backend: "{backend}"
max_batch_size: 8
input [ {{ name: "pixels" data_type: TYPE_FP32 dims: [ {dims} ] }} ]
output [ {{ name: "scores" data_type: TYPE_FP32 dims: [ {dims} ] }} ]
instance_group [ {{ count: 1 kind: KIND_CPU }} ]
dynamic_batching {{
  preferred_batch_size: [ 4, {preferred} ]
  max_queue_delay_microseconds: 200
}}
parameters {{ key: "threads" value {{ string_value: "2" }} }}
"""

_ENSEMBLE = """platform: "ensemble"
max_batch_size: 8
input [ {{ name: "pixels" data_type: TYPE_FP32 dims: [ 16 ] }} ]
output [ {{ name: "scores" data_type: TYPE_FP32 dims: [ 16 ] }} ]
ensemble_scheduling {{
  step [
    {{
      model_name: "{first}" model_version: -1
      input_map {{ key: "pixels" value: "pixels" }} output_map {{ key: "scores" value: "hidden" }}
    }},
    {{
      model_name: "{second}" model_version: -1
      input_map {{ key: "pixels" value: "hidden" }} output_map {{ key: "scores" value: "scores" }}
    }}
  ]
}}
"""


def _onnx_bytes() -> bytes:
    dims = ["batch", 16]
    weights = [
        numpy_helper.from_array(np.ones((16, 16), np.float32), f"w{layer}") for layer in range(24)
    ]
    names = ["pixels", *(f"h{layer}" for layer in range(23)), "scores"]
    nodes = [
        helper.make_node("MatMul", [names[layer], f"w{layer}"], [names[layer + 1]])
        for layer in range(24)
    ]
    graph = helper.make_graph(
        nodes,
        "layers",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, dims)],
        weights,
    )
    opset = helper.make_opsetid("", 17)
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


def write_repository(root: Path, count: int) -> None:
    """Write `count` models into `root`."""
    onnx_bytes = _onnx_bytes()
    for index in range(count):
        kind = index % 5
        folder = root / f"model_{index:04d}"
        version = folder / "1"
        version.mkdir(parents=True)
        if kind in (0, 4):
            (version / "model.py").write_text(_PYTHON)
            config = _CONFIG.format(backend="python", dims=16, preferred=8 if kind == 0 else 9)
        elif kind in (1, 2):
            (version / "model.onnx").write_bytes(onnx_bytes)
            config = _CONFIG.format(backend="onnxruntime", dims=16, preferred=8)
        else:
            config = _ENSEMBLE.format(
                first=f"model_{index - 3:04d}", second=f"model_{index - 2:04d}"
            )
        if kind != 2:
            (folder / "config.pbtxt").write_text(config)


def _machine() -> dict[str, object]:
    """What it was measured on, how busy that was, and at which commit."""
    return {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        "commit": commit(),
    }


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _note(seconds: dict[str, list[float]], what: str, start: float, cpu: float) -> None:
    seconds.setdefault(f"{what}, seconds", []).append(time.perf_counter() - start)
    seconds.setdefault(f"{what}, CPU seconds", []).append(cpu)


def main() -> None:
    """Write the repository, time it in this process and as a command, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=500)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_repository(Path(folder), arguments.models)
        seconds: dict[str, list[float]] = {}
        for _ in range(arguments.runs):
            wall, cpu = time.perf_counter(), time.process_time()
            findings = validate_repository(Path(folder))
            _note(seconds, "validate_repository", wall, time.process_time() - cpu)
            wall, cpu = time.perf_counter(), _children_seconds()
            command = [sys.executable, "-m", "builder", "validate", folder, "--format", "json"]
            subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
            _note(seconds, "builder validate", wall, _children_seconds() - cpu)
    errors = sum(finding.severity == "error" for finding in findings)
    print(f"{arguments.models} models, {errors} errors, {len(findings) - errors} advice")
    rows = []
    for metric, values in seconds.items():
        median = statistics.median(values)
        print(f"{metric}: median {median:.2f}, worst {max(values):.2f}")
        rows.append(
            {
                "case": f"{arguments.models} models",
                "metric": f"{metric}, the baseline is the limit",
                "baseline": _LIMIT_SECONDS,
                "ours": round(median, 3),
                "ratio": round(_LIMIT_SECONDS / median, 2),
            }
        )
    _RESULTS.parent.mkdir(exist_ok=True)
    content = {
        "machine": _machine(),
        "threads": 1,
        "runs": arguments.runs,
        "rows": rows,
    }
    _RESULTS.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
