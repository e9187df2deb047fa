"""Every setting rendered, against the text that a person would write."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from builder.errors import SpecError
from builder.render.model_config import EnsembleStep, ModelConfig, Tensor
from builder.render.settings import with_settings
from builder.render.templates import render_config
from builder.spec.batching import Batched
from builder.spec.triton import EnsembleSettings, TritonModel
from builder.spec.triton.model import BatchedStage, ModelSettings

NEWEST = "26.07"
BASE = ModelConfig(
    backend="onnxruntime",
    name="m",
    max_batch_size=8,
    inputs=(Tensor("x", "FP32", (-1,), allow_ragged_batch=True), Tensor("t", "STRING", (1,))),
    outputs=(Tensor("y", "FP32", (-1,), label_filename="labels.txt"),),
    parameters={"own": "1"},
)
PYTHON = replace(BASE, backend="python")
ENSEMBLE = replace(
    BASE,
    backend="ensemble",
    parameters={},
    inputs=(Tensor("x", "FP32", (-1,)),),
    outputs=(Tensor("y", "FP32", (-1,)),),
    steps=(EnsembleStep("m", {"x": "x"}, {"y": "y"}),),
)


def applied(
    config: ModelConfig,
    settings: ModelSettings,
    base: Path = Path(),
    release: str = NEWEST,
    target: str = "cpu",
) -> ModelConfig:
    return with_settings(config, settings, target=target, release=release, base=base)


def parsed(config: ModelConfig) -> pb.ModelConfig:
    return text_format.Parse(render_config(config, "x.yaml"), pb.ModelConfig())


DYNAMIC: dict[str, Any] = {
    "max_batch_size": 8,
    "dynamic_batching": {
        "preferred_batch_size": [4, 8],
        "max_queue_delay_microseconds": 7,
        "priority_levels": 3,
        "default_priority_level": 2,
        "default_queue_policy": {
            "timeout_action": "DELAY",
            "default_timeout_microseconds": 5,
            "allow_timeout_override": True,
            "max_queue_size": 6,
        },
        "priority_queue_policy": {1: {"max_queue_size": 9}, 3: {"timeout_action": "DELAY"}},
    },
    "instance_group": [
        {
            "name": "first",
            "count": 2,
            "kind": "cpu",
            "host_policy": "numa_0",
            "rate_limiter": {
                "priority": 2,
                "resources": [
                    {"name": "R1", "count": 4},
                    {"name": "R2", "global": True, "count": 2},
                ],
            },
        },
        {"kind": "model", "passive": True},
        {"kind": "gpu", "gpus": [0, 1], "secondary_devices": [{"device_id": 3}]},
    ],
    "optimization": {
        "graph": {"level": 1},
        "priority": "PRIORITY_MAX",
        "cuda": {
            "graphs": True,
            "busy_wait_events": True,
            "output_copy_stream": True,
            "graph_spec": [
                {
                    "batch_size": 2,
                    "input": {"x": {"dim": [4]}},
                    "graph_lower_bound": {"batch_size": 1, "input": {"x": {"dim": [2]}}},
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
        "gather_kernel_buffer_threshold": 3,
        "eager_batching": True,
    },
    "response_cache": {"enable": True},
    "version_policy": {"specific": {"versions": [1, 3]}},
    "metric_tags": {"team": "search"},
    "model_metrics": {
        "metric_control": [
            {
                "metric_identifier": {"family": "nv_inference_first_response_histogram_ms"},
                "histogram_options": {"buckets": [0.5, 1, 20]},
            }
        ]
    },
    "parameters": {"a": True, "b": 2, "c": 'say "hi"'},
    "batch_input": [
        {
            "kind": "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO",
            "target_name": ["ends"],
            "data_type": "INT32",
            "source_input": ["x"],
        }
    ],
    "batch_output": [{"target_name": ["y"], "source_input": ["x"]}],
    "model_operations": {"op_library_filename": ["/opt/ops.so"]},
    "runtime": "libtriton_onnxruntime.so",
}
DYNAMIC_TEXT = """
name: "m" platform: "onnxruntime_onnx" backend: "onnxruntime"
default_model_filename: "model.onnx" runtime: "libtriton_onnxruntime.so"
max_batch_size: 8
version_policy { specific { versions: [1, 3] } }
input { name: "x" data_type: TYPE_FP32 dims: -1 allow_ragged_batch: true }
input { name: "t" data_type: TYPE_STRING dims: 1 }
output { name: "y" data_type: TYPE_FP32 dims: -1 label_filename: "labels.txt" }
batch_input { kind: BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO target_name: "ends"
  data_type: TYPE_INT32 source_input: "x" }
batch_output { target_name: "y" kind: BATCH_SCATTER_WITH_INPUT_SHAPE source_input: "x" }
instance_group { name: "first" count: 2 kind: KIND_CPU host_policy: "numa_0"
  rate_limiter { priority: 2 resources { name: "R1" count: 4 }
    resources { name: "R2" global: true count: 2 } } }
instance_group { count: 1 kind: KIND_MODEL passive: true }
instance_group { count: 1 kind: KIND_GPU gpus: [0, 1]
  secondary_devices { kind: KIND_NVDLA device_id: 3 } }
dynamic_batching {
  preferred_batch_size: [4, 8] max_queue_delay_microseconds: 7
  priority_levels: 3 default_priority_level: 2
  default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 5
    allow_timeout_override: true max_queue_size: 6 }
  priority_queue_policy { key: 1 value { max_queue_size: 9 } }
  priority_queue_policy { key: 3 value { timeout_action: DELAY } }
}
optimization {
  graph { level: 1 } priority: PRIORITY_MAX
  cuda { graphs: true busy_wait_events: true output_copy_stream: true
    graph_spec { batch_size: 2 input { key: "x" value { dim: 4 } }
      graph_lower_bound { batch_size: 1 input { key: "x" value { dim: 2 } } } } }
  execution_accelerators {
    gpu_execution_accelerator { name: "tensorrt"
      parameters { key: "precision_mode" value: "FP16" } }
    cpu_execution_accelerator { name: "openvino" } }
  input_pinned_memory { enable: false } output_pinned_memory { enable: true }
  gather_kernel_buffer_threshold: 3 eager_batching: true
}
response_cache { enable: true }
metric_tags { key: "team" value: "search" }
model_metrics { metric_control {
  metric_identifier { family: "nv_inference_first_response_histogram_ms" }
  histogram_options { buckets: [0.5, 1, 20] } } }
model_operations { op_library_filename: "/opt/ops.so" }
parameters { key: "own" value { string_value: "1" } }
parameters { key: "a" value { string_value: "true" } }
parameters { key: "b" value { string_value: "2" } }
parameters { key: "c" value { string_value: "say \\"hi\\"" } }
"""
SEQUENCE: dict[str, Any] = {
    "max_batch_size": 8,
    "sequence_batching": {
        "oldest": {
            "max_candidate_sequences": 4,
            "preferred_batch_size": [2],
            "max_queue_delay_microseconds": 3,
            "preserve_ordering": True,
        },
        "max_sequence_idle_microseconds": 8,
        "control_input": [
            {
                "name": "start",
                "control": [{"kind": "CONTROL_SEQUENCE_START", "fp32_false_true": [0, 1]}],
            },
            {
                "name": "ready",
                "control": [{"kind": "CONTROL_SEQUENCE_READY", "bool_false_true": [False, True]}],
            },
            {
                "name": "end",
                "control": [{"kind": "CONTROL_SEQUENCE_END", "int32_false_true": [0, 1]}],
            },
            {
                "name": "id",
                "control": [{"kind": "CONTROL_SEQUENCE_CORRID", "data_type": "UINT64"}],
            },
        ],
        "state": [
            {
                "input_name": "s_in",
                "output_name": "s_out",
                "data_type": "FP32",
                "dims": [2, -1],
                "use_same_buffer_for_input_output": True,
                "use_growable_memory": True,
                "initial_state": [
                    {
                        "name": "zeros",
                        "data_type": "FP32",
                        "dims": [2, 3],
                        "data_file": "start.npy",
                    }
                ],
            },
            {
                "input_name": "n_in",
                "output_name": "n_out",
                "data_type": "INT64",
                "dims": [1],
                "initial_state": [
                    {"name": "none", "data_type": "INT64", "dims": [1], "zero_data": True}
                ],
            },
        ],
        "iterative_sequence": True,
    },
    "model_transaction_policy": {"decoupled": True},
    "version_policy": {"all": {}},
    "response_cache": {"enable": False},
}
SEQUENCE_TEXT = """
name: "m" backend: "python" default_model_filename: "model.py" max_batch_size: 8
version_policy { all {} }
input { name: "x" data_type: TYPE_FP32 dims: -1 allow_ragged_batch: true }
input { name: "t" data_type: TYPE_STRING dims: 1 }
output { name: "y" data_type: TYPE_FP32 dims: -1 label_filename: "labels.txt" }
instance_group { count: 1 kind: KIND_CPU }
sequence_batching {
  oldest { max_candidate_sequences: 4 preferred_batch_size: 2 max_queue_delay_microseconds: 3
    preserve_ordering: true }
  max_sequence_idle_microseconds: 8
  control_input { name: "start"
    control { kind: CONTROL_SEQUENCE_START fp32_false_true: [0, 1] } }
  control_input { name: "ready"
    control { kind: CONTROL_SEQUENCE_READY bool_false_true: [false, true] } }
  control_input { name: "end" control { kind: CONTROL_SEQUENCE_END int32_false_true: [0, 1] } }
  control_input { name: "id" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } }
  state { input_name: "s_in" output_name: "s_out" data_type: TYPE_FP32 dims: [2, -1]
    use_same_buffer_for_input_output: true use_growable_memory: true
    initial_state { data_type: TYPE_FP32 dims: [2, 3] data_file: "0-zeros" name: "zeros" } }
  state { input_name: "n_in" output_name: "n_out" data_type: TYPE_INT64 dims: 1
    initial_state { data_type: TYPE_INT64 dims: 1 zero_data: true name: "none" } }
  iterative_sequence: true
}
model_transaction_policy { decoupled: true }
response_cache { enable: false }
parameters { key: "own" value { string_value: "1" } }
"""


def test_every_setting_of_a_batched_model_is_rendered() -> None:
    made = parsed(applied(BASE, TritonModel.model_validate(DYNAMIC), target="gpu"))
    assert made == text_format.Parse(DYNAMIC_TEXT, pb.ModelConfig())


def test_every_setting_of_a_sequence_model_is_rendered(tmp_path: Path) -> None:
    start = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.save(tmp_path / "start.npy", start)
    made = applied(PYTHON, TritonModel.model_validate(SEQUENCE), tmp_path)
    assert parsed(made) == text_format.Parse(SEQUENCE_TEXT, pb.ModelConfig())
    assert made.files == {"initial_state/0-zeros": start.tobytes()}


def test_a_direct_strategy_is_rendered() -> None:
    settings = TritonModel.model_validate(
        {
            "max_batch_size": 8,
            "sequence_batching": {
                "direct": {"max_queue_delay_microseconds": 4, "minimum_slot_utilization": 0.5}
            },
        }
    )
    made = parsed(applied(PYTHON, settings)).sequence_batching
    assert made.direct.max_queue_delay_microseconds == 4
    assert made.direct.minimum_slot_utilization == 0.5


def test_profiles_are_for_tensorrt() -> None:
    settings = Batched.model_validate({"instance_group": [{"kind": "gpu", "profile": ["0", "2"]}]})
    plan = replace(BASE, backend="tensorrt", parameters={})
    assert list(parsed(applied(plan, settings)).instance_group[0].profile) == ["0", "2"]
    with pytest.raises(SpecError, match=r"instance_group\.profile is for TensorRT"):
        applied(BASE, settings)


def test_an_ensemble_has_settings_of_its_own() -> None:
    settings = EnsembleSettings.model_validate(
        {
            "ensemble_scheduling": {"max_inflight_requests": 5},
            "version_policy": {"latest": {"num_versions": 2}},
            "response_cache": {"enable": True},
        }
    )
    made = parsed(applied(ENSEMBLE, settings))
    assert made.ensemble_scheduling.max_inflight_requests == 5
    assert made.version_policy.latest.num_versions == 2
    assert made.response_cache.enable


def test_warmup_samples_become_files(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([1, 2, 3], np.float32))
    (tmp_path / "x.bin").write_bytes(np.array([4, 5], np.float32).tobytes())
    settings = TritonModel.model_validate(
        {
            "max_batch_size": 8,
            "model_warmup": [
                {
                    "name": "real one",
                    "batch_size": 2,
                    "count": 3,
                    "inputs": {"x": {"input_data_file": "x.npy"}, "t": {"values": ["ü"]}},
                },
                {
                    "name": "made",
                    "inputs": {"x": {"random_data": True, "dims": [7]}, "t": {"zero_data": True}},
                },
                {
                    "name": "raw",
                    "inputs": {
                        "x": {"input_data_file": "x.bin", "dims": [2]},
                        "t": {"values": "a text"},
                    },
                },
            ],
        }
    )
    made = applied(PYTHON, settings, tmp_path)
    assert parsed(made).model_warmup == parsed_warmup()
    assert made.files == {
        "warmup/0-0-real_one-x": np.array([1, 2, 3], np.float32).tobytes(),
        "warmup/0-1-real_one-t": b"\x02\x00\x00\x00" + "ü".encode(),
        "warmup/2-0-raw-x": np.array([4, 5], np.float32).tobytes(),
        "warmup/2-1-raw-t": b"\x06\x00\x00\x00a text",
    }


def parsed_warmup() -> Any:
    text = """
    model_warmup { name: "real one" batch_size: 2 count: 3
      inputs { key: "x" value { data_type: TYPE_FP32 dims: 3
        input_data_file: "0-0-real_one-x" } }
      inputs { key: "t" value { data_type: TYPE_STRING dims: 1
        input_data_file: "0-1-real_one-t" } } }
    model_warmup { name: "made" batch_size: 1
      inputs { key: "x" value { data_type: TYPE_FP32 dims: 7 random_data: true } }
      inputs { key: "t" value { data_type: TYPE_STRING dims: 1 zero_data: true } } }
    model_warmup { name: "raw" batch_size: 1
      inputs { key: "x" value { data_type: TYPE_FP32 dims: 2
        input_data_file: "2-0-raw-x" } }
      inputs { key: "t" value { data_type: TYPE_STRING dims: 1
        input_data_file: "2-1-raw-t" } } }
    """
    return text_format.Parse(text, pb.ModelConfig()).model_warmup


def test_a_batching_library_is_put_where_triton_finds_it(tmp_path: Path) -> None:
    (tmp_path / "volume.so").write_bytes(b"ELF")
    key = "TRITON_BATCH_STRATEGY_PATH"
    made = applied(PYTHON, TritonModel(parameters={key: "volume.so"}), tmp_path)
    assert made.files == {"batchstrategy.so": b"ELF"}
    assert key not in made.parameters
    made = applied(PYTHON, TritonModel(parameters={key: "/opt/volume.so"}), tmp_path)
    assert made.parameters[key] == "/opt/volume.so"


def test_what_a_spec_does_not_say_stays_as_the_builder_made_it() -> None:
    assert applied(BASE, BatchedStage()) == BASE
    assert applied(ENSEMBLE, EnsembleSettings()) == ENSEMBLE
