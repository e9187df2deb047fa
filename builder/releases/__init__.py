"""What is in each Triton release, as data (`releases.yaml`, `operators.json`).

    table()                the whole table
    release_of("26.07")    one row; a sentence for a release that is not there
    onnx_problems(...)     what an ONNX Runtime does not load of an ONNX file

A newer release is a row in the data, no code: see the head of `releases.yaml`.
"""

from builder.releases.operators import (
    NodeUse,
    called,
    domain_name,
    introduced,
    listed,
    nodes_of,
    onnx_problems,
    opsets_of,
    use_of,
    uses_of,
)
from builder.releases.table import (
    Change,
    OnnxRuntime,
    Release,
    Table,
    is_release,
    onnxruntime_of,
    release_of,
    table,
)

__all__ = [
    "Change",
    "NodeUse",
    "OnnxRuntime",
    "Release",
    "Table",
    "called",
    "domain_name",
    "introduced",
    "is_release",
    "listed",
    "nodes_of",
    "onnx_problems",
    "onnxruntime_of",
    "opsets_of",
    "release_of",
    "table",
    "use_of",
    "uses_of",
]
