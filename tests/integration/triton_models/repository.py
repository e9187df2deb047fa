"""The repository of `test_model_config.py`: every setting, written by the builder."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import parser
from ruamel.yaml import YAML

from builder.build import Build
from builder.progress import Progress
from builder.render.model_config import EnsembleStep, ModelConfig, Tensor
from builder.render.models import write_models
from builder.render.settings import with_settings
from builder.spec.load import load_any_spec
from builder.spec.triton import EnsembleSettings, ModelSettings, TritonModel
from examples.tiny.tasks import labels, save_text_model

HERE = Path(__file__).parent
RELEASE = "24.10"
_FOREVER = 60_000_000

TAG = Tensor("TAG", "STRING", (1,))
GATE = Tensor("GATE", "STRING", (1,))
RECORDED = (Tensor("SIZE", "INT32", (1,)), Tensor("WHO", "STRING", (1,)))
X = Tensor("X", "INT32", (1,))

PYTHON: dict[str, tuple[str, tuple[Tensor, ...], tuple[Tensor, ...], dict[str, Any]]] = {
    # A queue without a batch dim: priorities, timeouts, and a bound.
    "queued": (
        "recorder",
        (TAG, GATE),
        RECORDED,
        {
            "dynamic_batching": {
                "priority_levels": 3,
                "default_priority_level": 2,
                "default_queue_policy": {
                    "timeout_action": "REJECT",
                    "default_timeout_microseconds": _FOREVER,
                    "allow_timeout_override": True,
                },
                "priority_queue_policy": {
                    1: {
                        "timeout_action": "DELAY",
                        "default_timeout_microseconds": _FOREVER,
                        "allow_timeout_override": True,
                    },
                    3: {"max_queue_size": 2},
                },
            },
            "runtime": "libtriton_python.so",
        },
    ),
    "ordered": (
        "recorder",
        (TAG, GATE),
        RECORDED,
        {
            "max_batch_size": 1,
            "dynamic_batching": {"preserve_ordering": True},
            "instance_group": [{"count": 2, "kind": "cpu"}],
        },
    ),
    "grouped": (
        "recorder",
        (TAG, GATE),
        RECORDED,
        {
            "max_batch_size": 1,
            "dynamic_batching": {},
            "instance_group": [
                {
                    "name": "busy",
                    "count": 2,
                    "kind": "cpu",
                    "host_policy": "quiet",
                    "rate_limiter": {"priority": 2},
                },
                {"name": "idle", "kind": "cpu", "passive": True},
            ],
            "metric_tags": {"team": "search"},
            "optimization": {"priority": "PRIORITY_MAX", "eager_batching": True},
        },
    ),
    "joined": (
        "recorder",
        (TAG, GATE),
        RECORDED,
        {
            "max_batch_size": 8,
            "dynamic_batching": {
                "preferred_batch_size": [4],
                "max_queue_delay_microseconds": 20_000_000,
            },
            "instance_group": [{"kind": "model"}],
        },
    ),
    "paired": (
        "recorder",
        (TAG, GATE),
        RECORDED,
        {
            "max_batch_size": 8,
            "dynamic_batching": {"max_queue_delay_microseconds": 20_000_000},
            "parameters": {"TRITON_BATCH_STRATEGY_PATH": "pairs.so"},
        },
    ),
    "cached": ("recorder", (TAG, GATE), RECORDED, {"response_cache": {"enable": True}}),
    "limited_a": (
        "recorder",
        (TAG, GATE),
        RECORDED,
        {
            "instance_group": [
                {"kind": "cpu", "rate_limiter": {"resources": [{"name": "SHARED", "count": 1}]}}
            ]
        },
    ),
    "limited_b": (
        "recorder",
        (TAG, GATE),
        RECORDED,
        {
            "instance_group": [
                {"kind": "cpu", "rate_limiter": {"resources": [{"name": "SHARED", "count": 1}]}}
            ]
        },
    ),
    "latest": (
        "recorder",
        (TAG, GATE),
        RECORDED,
        {"version_policy": {"latest": {"num_versions": 2}}},
    ),
    "specific": (
        "recorder",
        (TAG, GATE),
        RECORDED,
        {"version_policy": {"specific": {"versions": [1, 3]}}},
    ),
    "every": ("recorder", (TAG, GATE), RECORDED, {"version_policy": {"all": {}}}),
    "warmed": (
        "warmed",
        (Tensor("X", "FP32", (-1,)), Tensor("TEXT", "STRING", (1,))),
        (Tensor("Y", "FP32", (1,)),),
        {
            "max_batch_size": 4,
            "model_warmup": [
                {
                    "name": "real",
                    "batch_size": 2,
                    "count": 2,
                    "inputs": {
                        "X": {"input_data_file": "sample.npy"},
                        "TEXT": {"values": ["Grüße"]},
                    },
                },
                {
                    "name": "made",
                    "inputs": {
                        "X": {"random_data": True, "dims": [5]},
                        "TEXT": {"zero_data": True},
                    },
                },
            ],
        },
    ),
    "direct": (
        "summing",
        (X,),
        (
            Tensor("SUM", "INT32", (1,)),
            Tensor("SIZE", "INT32", (1,)),
            Tensor("OPEN", "INT32", (1,)),
        ),
        {
            "max_batch_size": 2,
            "sequence_batching": {
                "direct": {},
                "max_sequence_idle_microseconds": 500_000,
            },
        },
    ),
    "oldest": (
        "summing",
        (X,),
        (
            Tensor("SUM", "INT32", (1,)),
            Tensor("SIZE", "INT32", (1,)),
            Tensor("OPEN", "INT32", (1,)),
        ),
        {
            "max_batch_size": 2,
            "sequence_batching": {
                "oldest": {
                    "max_candidate_sequences": 4,
                    "preferred_batch_size": [2],
                    "max_queue_delay_microseconds": 20_000_000,
                },
                "max_sequence_idle_microseconds": _FOREVER,
            },
        },
    ),
    "iterative": (
        "iterative",
        (X,),
        (Tensor("ROUNDS", "INT32", (1,)),),
        {
            "max_batch_size": 4,
            "sequence_batching": {
                "iterative_sequence": True,
                "oldest": {"max_candidate_sequences": 4},
            },
        },
    ),
    "streaming": (
        "streaming",
        (X,),
        (Tensor("Y", "INT32", (1,)),),
        {"model_transaction_policy": {"decoupled": True}},
    ),
}
"""Model -> source, inputs, outputs, what the spec says."""

CONTROLS = [
    {
        "name": kind,
        "control": [{"kind": f"CONTROL_SEQUENCE_{kind}", "int32_false_true": [0, 1]}],
    }
    for kind in ("START", "END", "READY")
] + [
    {
        "name": "CORRID",
        "control": [{"kind": "CONTROL_SEQUENCE_CORRID", "data_type": "UINT64"}],
    }
]

ONNX: dict[str, tuple[str, dict[str, Any]]] = {
    # x: what all requests have, one after the other; ends: where each begins and ends.
    "ragged": (
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[all] x, int32[fences] ends, float[n, 1] shapes) =>
          (float[all] twice, float[n, 1] sum, float[n, 1] width)
        <int64 axis = {0}, int64[1] one = {1}, int64[1] zero = {0}, int64[1] last = {-1},
         int64[1] end = {9223372036854775807}, float[1] nought = {0}, float two = {2},
         float no = {0}>
        {
          twice = Mul(x, two)
          running = CumSum(x, axis)
          fenced = Concat<axis = 0>(nought, running)
          at = Gather<axis = 0>(fenced, ends)
          begins = Slice(at, zero, last)
          stops = Slice(at, one, end)
          sums = Sub(stops, begins)
          sum = Unsqueeze(sums, one)
          width = Identity(shapes)
        }""",
        {
            "model": {
                "max_batch_size": 3,
                "dynamic_batching": {
                    "preferred_batch_size": [3],
                    "max_queue_delay_microseconds": 20_000_000,
                },
                "batch_input": [
                    {
                        "kind": "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO",
                        "target_name": ["ends"],
                        "data_type": "INT32",
                        "source_input": ["x"],
                    },
                    {
                        "kind": "BATCH_ITEM_SHAPE",
                        "target_name": ["shapes"],
                        "data_type": "FP32",
                        "source_input": ["x"],
                    },
                ],
                "batch_output": [{"target_name": ["twice"], "source_input": ["x"]}],
            },
            "inputs": [
                {"name": "x", "data_type": "FP32", "dims": [-1], "allow_ragged_batch": True}
            ],
            "outputs": [
                {"name": "twice", "data_type": "FP32", "dims": [-1]},
                {"name": "sum", "data_type": "FP32", "dims": [1]},
                {"name": "width", "data_type": "FP32", "dims": [1]},
            ],
            "verify": {"dims": {"all": 6, "fences": 4, "n": 3}, "ranges": {"ends": [0, 6]}},
        },
    ),
    # A running sum that Triton keeps; it begins with what a file says.
    "stateful": (
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[n, 2] x, float[n, 2] kept, float[n, 1] START) =>
          (float[n, 2] y, float[n, 2] left)
        <float thousand = {1000}>
        {
          left = Add(x, kept)
          begun = Mul(START, thousand)
          y = Add(left, begun)
        }""",
        {
            "model": {
                "max_batch_size": 2,
                "sequence_batching": {
                    "oldest": {"max_candidate_sequences": 4},
                    "max_sequence_idle_microseconds": _FOREVER,
                    "control_input": [
                        {
                            "name": "START",
                            "control": [
                                {"kind": "CONTROL_SEQUENCE_START", "fp32_false_true": [0, 1]}
                            ],
                        }
                    ],
                    "state": [
                        {
                            "input_name": "kept",
                            "output_name": "left",
                            "data_type": "FP32",
                            "dims": [2],
                            "initial_state": [
                                {
                                    "name": "begin",
                                    "data_type": "FP32",
                                    "dims": [2],
                                    "data_file": "begin.npy",
                                }
                            ],
                        }
                    ],
                },
            },
            "inputs": [{"name": "x", "data_type": "FP32", "dims": [2]}],
            "outputs": [{"name": "y", "data_type": "FP32", "dims": [2]}],
        },
    ),
    # Everything about devices, on a machine that has none of them.
    "labelled": (
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[n, 3] x) => (float[n, 3] y) { y = Identity(x) }""",
        {
            "model": {
                "max_batch_size": 4,
                "optimization": {
                    "graph": {"level": 1},
                    "priority": "PRIORITY_MIN",
                    "cuda": {
                        "graphs": True,
                        "busy_wait_events": True,
                        "output_copy_stream": True,
                        "graph_spec": [
                            {
                                "batch_size": 2,
                                "input": {"x": {"dim": [3]}},
                                "graph_lower_bound": {
                                    "batch_size": 1,
                                    "input": {"x": {"dim": [3]}},
                                },
                            }
                        ],
                    },
                    "execution_accelerators": {
                        "gpu_execution_accelerator": [
                            {"name": "tensorrt", "parameters": {"precision_mode": "FP16"}}
                        ],
                        "cpu_execution_accelerator": [{"name": "openvino"}],
                    },
                    "input_pinned_memory": {"enable": False},
                    "output_pinned_memory": {"enable": True},
                    "gather_kernel_buffer_threshold": 4,
                    "eager_batching": True,
                },
                "parameters": {"enable_mem_arena": False},
                "model_warmup": [{"name": "random", "inputs": {"x": {"random_data": True}}}],
            },
            "inputs": [{"name": "x", "data_type": "FP32", "dims": [3]}],
            "outputs": [
                {"name": "y", "data_type": "FP32", "dims": [3], "label_filename": "animals.txt"}
            ],
        },
    ),
}
"""Model -> graph, what the spec says."""


class _Quiet(Progress):
    """Shows nothing."""


TASK: dict[str, Any] = {
    "name": "sorted",
    "task": "text-classification",
    "checkpoint": {"path": "checkpoint"},
    "sequence_buckets": [16],
    "model": {
        "max_batch_size": 4,
        "exporter": "torch",
        "optimize": "none",
        "dynamic_batching": {
            "default_queue_policy": {"max_queue_size": 100},
            "max_queue_delay_microseconds": 10,
        },
        "instance_group": [{"count": 2}],
        "response_cache": {"enable": True},
    },
    "stages": {
        "tokenize": {
            "model_warmup": [{"name": "real", "inputs": {"TEXT": {"values": ["a real text"]}}}],
            "metric_tags": {"stage": "first"},
        },
        "classify": {"parameters": {"note": "mine"}},
    },
    "ensemble": {"response_cache": {"enable": True}, "version_policy": {"all": {}}},
}
TASK_MODELS = ("sorted", "sorted_tokenize", "sorted_model", "sorted_classify")


def write_sources(folder: Path) -> None:
    """What the specs refer to: samples, states, labels, a library, and a checkpoint."""
    save_text_model(
        folder / "checkpoint", "SequenceClassification", "bert", **labels("bad", "good")
    )
    np.save(folder / "sample.npy", np.array([1.5, 2.5, 3.5], np.float32))
    np.save(folder / "begin.npy", np.array([10, 20], np.float32))
    (folder / "animals.txt").write_text("cat\ndog\nowl\n")
    library = folder / "pairs.so"
    source = HERE / "pairs.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source], check=True)


def _python_member(name: str, log: Path) -> dict[str, Any]:
    source, inputs, outputs, said = PYTHON[name]
    model = {key: value for key, value in said.items() if key != "parameters"}
    if source == "summing":
        model["sequence_batching"] = {**model["sequence_batching"], "control_input": CONTROLS}
    return {
        "name": name,
        "python": {"path": str(HERE / f"{source}.py")},
        "model": model,
        "inputs": [_declared(tensor) for tensor in inputs],
        "outputs": [_declared(tensor) for tensor in outputs],
        "parameters": {"folder": str(log), **said.get("parameters", {})},
    }


def _declared(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "data_type": tensor.data_type, "dims": list(tensor.dims)}


def repository_spec(log: Path) -> dict[str, Any]:
    """All models as one repository."""
    texts = {"TAG": "TAG", "GATE": "GATE"}
    return {
        "name": "settings",
        "triton_release": RELEASE,
        "members": [
            *(_python_member(name, log) for name in PYTHON),
            TASK,
            *({"name": n, "onnx": {"path": f"{n}.onnx"}, **said} for n, (_, said) in ONNX.items()),
        ],
        "ensembles": [
            {
                "name": "remembered",
                "steps": [{"model": "grouped", "in": texts, "out": {"SIZE": "SIZE", "WHO": "WHO"}}],
                "response_cache": {"enable": True},
                "metric_tags": {"of": "an ensemble"},
            }
        ],
    }


def write_repository(folder: Path, log: Path) -> Path:
    """Build every model.

    Args:
        folder: Where the spec and what it refers to go.
        log: Where the models write what they do.
    """
    write_sources(folder)
    repository = folder / "repository"
    for name, (graph, _) in ONNX.items():
        onnx.save_model(parser.parse_model(graph), str(folder / f"{name}.onnx"))
    path = folder / "settings.yaml"
    with path.open("w") as file:
        YAML().dump(repository_spec(log), file)
    Build(load_any_spec(path), path, repository, _Quiet()).run()
    for name in ("latest", "specific", "every"):
        for version in ("2", "3"):
            shutil.copytree(repository / name / "1", repository / name / version)
    return repository


def write_unloadable(repository: Path) -> None:
    """Models that this server must refuse: fields that are younger, a library that is not there."""
    metrics = {
        "metric_control": [
            {
                "metric_identifier": {"family": "nv_inference_first_response_histogram_ms"},
                "histogram_options": {"buckets": [1, 10]},
            }
        ]
    }
    python = ModelConfig("python", "metrics", 0, (TAG, GATE), RECORDED)
    step = EnsembleStep("cached", {"TAG": "TAG", "GATE": "GATE"}, {"SIZE": "SIZE", "WHO": "WHO"})
    ensemble = ModelConfig("ensemble", "flight", 0, (TAG, GATE), RECORDED, steps=(step,))
    x, y = Tensor("x", "FP32", (3,)), Tensor("y", "FP32", (3,))
    graph = ModelConfig("onnxruntime", "custom_ops", 4, (x,), (y,))
    said: list[tuple[ModelConfig, ModelSettings]] = [
        (python, TritonModel.model_validate({"model_metrics": metrics})),
        (
            ensemble,
            EnsembleSettings.model_validate({"ensemble_scheduling": {"max_inflight_requests": 4}}),
        ),
        (
            graph,
            TritonModel.model_validate(
                {
                    "max_batch_size": 4,
                    "model_operations": {"op_library_filename": ["/no/such/ops.so"]},
                }
            ),
        ),
    ]
    configs = [
        with_settings(config, settings, target="cpu", release="25.11", base=repository)
        for config, settings in said
    ]
    write_models(configs, {}, "test", repository, "1")
    shutil.copyfile(HERE / "recorder.py", repository / "metrics" / "1" / "model.py")
    shutil.copyfile(
        repository / "labelled" / "1" / "model.onnx", repository / "custom_ops" / "1" / "model.onnx"
    )
