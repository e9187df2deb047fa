"""ONNX graphs and a task with settings, and what the spec says of each."""

from typing import Any

from tests.integration.triton_models.python_members import FOREVER

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
                    "max_sequence_idle_microseconds": FOREVER,
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
