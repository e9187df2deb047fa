"""What one ONNX Runtime loads, as JSON: run by the Python that has it, with nothing else but numpy.

`python onnxruntime_facts.py PROBES` loads every `*.onnx` in the folder PROBES, runs it on zeros
and prints `{"version", "loaded": {file: ""|error}, "operators": [...], "kernels": [...]}`.
`scripts/measure_onnxruntimes.py` makes the probes and reads the answer.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as state

_DTYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
_SIZE = 2**31 - 1


def _run(path: Path) -> str:
    """Load a file and run it on zeros: "" or the first line of the error."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        feeds = {
            value.name: np.zeros([int(dim) for dim in value.shape], _DTYPES[value.type])
            for value in session.get_inputs()
        }
        session.run(None, feeds)
    except Exception as error:
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ""


def _operators() -> list[dict[str, Any]]:
    """Every operator schema in the wheel: domain, name, version, attributes, bounds."""
    return [
        {
            "domain": schema.domain,
            "name": schema.name,
            "since": schema.since_version,
            "attributes": sorted(schema.attributes),
            "inputs": None if schema.max_input == _SIZE else schema.max_input,
            "outputs": None if schema.max_output == _SIZE else schema.max_output,
            "deprecated": schema.deprecated,
        }
        for schema in state.get_all_operator_schema()
    ]


def _kernels() -> list[tuple[str, str, int, int]]:
    """Kernels of the CPU: domain, operator, first and last version."""
    found = {
        (kernel.domain, kernel.op_name, *kernel.version_range)
        for kernel in state.get_all_opkernel_def()
        if kernel.provider == "CPUExecutionProvider"
    }
    return sorted(found)


def main() -> None:
    """Print the facts."""
    probes = sorted(Path(sys.argv[1]).glob("*.onnx"))
    facts = {
        "version": ort.__version__,
        "loaded": {path.stem: _run(path) for path in probes},
        "operators": _operators(),
        "kernels": _kernels(),
    }
    json.dump(facts, sys.stdout)


if __name__ == "__main__":
    main()
