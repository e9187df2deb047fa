"""Python models with settings: source, inputs, outputs, and what the spec says."""

from typing import Any

from builder.render.model_config import Tensor

FOREVER = 60_000_000
"""Microseconds."""

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
                    "default_timeout_microseconds": FOREVER,
                    "allow_timeout_override": True,
                },
                "priority_queue_policy": {
                    1: {
                        "timeout_action": "DELAY",
                        "default_timeout_microseconds": FOREVER,
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
                "max_sequence_idle_microseconds": FOREVER,
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
