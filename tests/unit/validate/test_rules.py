"""Every rule: a model that breaks it, and the same model mended, which does not."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx as onnx_package
import pytest
from onnx import TensorProto, helper

from builder.validate import RULES, Target, validate_repository

from .conftest import MODEL_PY, Write

Files = Mapping[str, str | bytes | None]

IO = """
input { name: "X" data_type: TYPE_FP32 dims: [ 4 ] }
output { name: "Y" data_type: TYPE_FP32 dims: [ 4 ] }
"""


def python(config: str, **files: str | bytes | None) -> Files:
    """A Python model `m` with `config`; `files` are below it, with `__` for `/`."""
    base: dict[str, str | bytes | None] = {
        "m/config.pbtxt": f'backend: "python"\n{config}',
        "m/1/model.py": MODEL_PY,
    }
    return {**base, **{f"m/{name}": content for name, content in files.items()}}


def graph(
    dims: list[int | str] | None = None,
    *,
    data_type: int = TensorProto.FLOAT,
    opset: int = 17,
    extra: list[str] | None = None,
    default: bool = False,
) -> bytes:
    """An ONNX identity from X to Y, with more inputs of the names in `extra`."""
    dims = ["batch", 4] if dims is None else dims
    names = ["X", *(extra or [])]
    inputs = [helper.make_tensor_value_info(name, data_type, dims) for name in names]
    nodes = [helper.make_node("Identity", ["X"], ["Y"])]
    initializers = []
    if default:
        initializers = [helper.make_tensor("D", TensorProto.FLOAT, [1], [0.0])]
        inputs.append(helper.make_tensor_value_info("D", TensorProto.FLOAT, [1]))
    outputs = [helper.make_tensor_value_info("Y", data_type, dims)]
    made = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    domain = helper.make_opsetid("", opset)
    model = helper.make_model(made, opset_imports=[domain], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


def external(size: int) -> bytes:
    """An ONNX model that reads `size` bytes of weights from `weights.bin`."""
    model = onnx_package.load_from_string(graph())
    tensor = model.graph.initializer.add(name="W", data_type=TensorProto.FLOAT, dims=[size // 4])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "weights.bin"), ("offset", "0"), ("length", str(size))):
        tensor.external_data.add(key=key, value=value)
    data: bytes = model.SerializeToString()
    return data


def onnx(config: str, model: bytes | None = None, **files: str | bytes | None) -> Files:
    """An ONNX model `m`."""
    base: dict[str, str | bytes | None] = {
        "m/config.pbtxt": f'backend: "onnxruntime"\n{config}',
        "m/1/model.onnx": graph() if model is None else model,
    }
    return {**base, **{f"m/{name}": content for name, content in files.items()}}


def plan(config: str, *, version: tuple[int, int] = (10, 5), **files: str | bytes | None) -> Files:
    """A TensorRT model `m`."""
    head = struct.pack("<II16x4B", 0x74727466, 0, *version, 0, 1) + b"rest of the engine"
    base: dict[str, str | bytes | None] = {
        "m/config.pbtxt": f'backend: "tensorrt"\n{config}',
        "m/1/model.plan": head,
    }
    return {**base, **{f"m/{name}": content for name, content in files.items()}}


def sequence(text: str) -> Files:
    return python(f"{IO} sequence_batching {{ {text} }}")


def control(text: str) -> Files:
    return sequence(f'control_input {{ name: "C" control {{ {text} }} }}')


def state(initial: str, **files: str | bytes | None) -> Files:
    return python(
        f"""{IO} sequence_batching {{ state {{
        input_name: "S" output_name: "T" data_type: TYPE_FP32 dims: [ 2 ] {initial} }} }}""",
        **files,
    )


def warmup(text: str, **files: str | bytes | None) -> Files:
    return python(
        f'{IO} model_warmup {{ name: "w" batch_size: 1 inputs {{ key: "X" value {{ {text} }} }} }}',
        **files,
    )


def ensemble(steps: str, io: str = IO, more: str = "", **models: Files) -> Files:
    """An ensemble `e` over the Python model `m` (batches of 8) and whatever `models` adds."""
    files: dict[str, str | bytes | None] = dict(python(f"max_batch_size: 8 {IO}"))
    files["e/config.pbtxt"] = (
        f'platform: "ensemble" max_batch_size: 8 {io} {more}\nensemble_scheduling {{ {steps} }}'
    )
    files["e/1"] = None
    for name, model in models.items():
        files.update({path.replace("m/", f"{name}/", 1): c for path, c in model.items()})
    return files


def step(
    inputs: Mapping[str, str], outputs: Mapping[str, str], model: str = "m", version: str = "-1"
) -> str:
    maps = [f'input_map {{ key: "{k}" value: "{v}" }}' for k, v in inputs.items()]
    maps += [f'output_map {{ key: "{k}" value: "{v}" }}' for k, v in outputs.items()]
    number = f"model_version: {version}" if version else ""
    return f'step {{ model_name: "{model}" {number} {" ".join(maps)} }}\n'


LABELS = 'output {{ name: "Y" data_type: TYPE_FP32 dims: [ 4 ] label_filename: "{}" }}'
STATE = 'state {{ input_name: "S" output_name: "T" data_type: TYPE_FP32 dims: [ {} ] }}'
XY = step({"X": "X"}, {"Y": "Y"})


@dataclass
class Case:
    """Files that break a rule and files that do not, and the server that they are judged for."""

    bad: Files
    good: Files
    target: Target = field(default_factory=Target)
    at: str = ""
    """Field that the finding names, where it is worth a check."""


GPU = "instance_group {{ kind: KIND_GPU {} }}"
RESOURCE = 'instance_group {{ rate_limiter {{ resources {{ name: "R" count: 1 {} }} }} }}'
STREAM = python(
    f"""max_batch_size: 8 {IO} output {{ name: "Z" data_type: TYPE_FP32 dims: [ 4 ] }}
    model_transaction_policy {{ decoupled: true }}"""
)
JOIN = python(
    """max_batch_size: 8 input { name: "A" data_type: TYPE_FP32 dims: [ 4 ] }
    input { name: "B" data_type: TYPE_FP32 dims: [ 4 ] }
    output { name: "Y" data_type: TYPE_FP32 dims: [ 4 ] }"""
)
PROFILE = '{"profiles": [{"X": {"min": [1, 4], "opt": [2, 4], "max": [4, 4]}}]}'

CASES: dict[str, Case] = {
    # The text.
    "proto.syntax": Case(python("max_batch_size 4"), python("max_batch_size: 4")),
    "proto.unknown-field": Case(
        python('inputs { name: "X" }'), python("max_batch_size: 4"), at="inputs"
    ),
    "artifact.negative-version": Case(
        {"m/config.pbtxt": 'backend: "python"', "m/-1/model.py": MODEL_PY},
        {"m/config.pbtxt": 'backend: "python"', "m/1/model.py": MODEL_PY},
    ),
    "metrics.tag": Case(
        python('metric_tags { key: "a-b" value: "v" }'),
        python('metric_tags { key: "a_b" value: "v" } metric_tags { key: "" value: "v" }'),
    ),
    "labels.escapes": Case(
        {**python(LABELS.format("../n/labels.txt")), "n/labels.txt": "a\n"},
        python(LABELS.format("labels.txt"), **{"labels.txt": "a\n"}),
        Target(release="26.06"),
    ),
    "layout.loaded-by-name": Case(
        {"  /config.pbtxt": 'backend: "python"', "  /1/model.py": MODEL_PY},
        {"m/config.pbtxt": 'backend: "python"', "m/1/model.py": MODEL_PY},
    ),
    "state.dims": Case(
        sequence(STATE.format("-2")), sequence(STATE.format("-1")), Target(release="24.10")
    ),
    "tensor.size": Case(
        python(f"input {{ name: 'X' data_type: TYPE_FP32 dims: [ {1 << 40}, {1 << 40} ] }}"),
        python(f"input {{ name: 'X' data_type: TYPE_FP32 dims: [ -1, {1 << 40}, {1 << 40} ] }}"),
        Target(release="26.03"),
    ),
    "proto.newer-field": Case(
        python("model_metrics { }"),
        python("model_metrics { }"),
        Target(release="24.10"),
        at="model_metrics",
    ),
    "proto.enum": Case(python("input { data_type: FP32 }"), python(IO), at="input[0].data_type"),
    "proto.escape": Case(python(r'parameters { key: "\q" }'), python(r'parameters { key: "\\q" }')),
    "proto.number": Case(python("max_batch_size: +4"), python("max_batch_size: 4")),
    "proto.repeated": Case(
        python("max_batch_size: 4 max_batch_size: 4"), python("max_batch_size: 4")
    ),
    "proto.unreadable": Case({"m/config.pbtxt": None, "m/1/model.py": MODEL_PY}, python(IO)),
    # Folders.
    "layout.name": Case(python('name: "other"'), python('name: "m"'), at="name"),
    "layout.no-version": Case({"m/config.pbtxt": 'backend: "python"'}, python(IO)),
    "layout.version-overflow": Case(
        python(IO, **{"99999999999999999999": None}), python(IO, **{"2/model.py": MODEL_PY})
    ),
    "layout.version-policy": Case(
        python("version_policy { specific { versions: [ 2 ] } }"),
        python("version_policy { specific { versions: [ 1 ] } }"),
        at="version_policy.specific",
    ),
    "layout.link-outside": Case(
        python(IO, **{"1/secret": "->/etc/passwd"}), python(IO, **{"1/inside": "->model.py"})
    ),
    "layout.link-circle": Case(
        python(IO, **{"1/back": "->.."}), python(IO, **{"1/beside": "->../assets", "assets": None})
    ),
    "layout.unreadable": Case(python(IO, gone="->nowhere"), python(IO, here="->1")),
    "layout.crowded": Case(
        python(IO, **{f"{number}.txt": "" for number in range(10_001)}), python(IO)
    ),
    "layout.ignored-folder": Case(python(IO, v2=None), python(IO, data=None)),
    "layout.version-folder-name": Case(
        python(IO, **{"2-old": None}), python(IO, **{"2/model.py": MODEL_PY})
    ),
    "layout.missing-version": Case(
        python("version_policy { specific { versions: [ 1, 7 ] } }"),
        python("version_policy { specific { versions: [ 1 ] } }"),
    ),
    "layout.no-config": Case(
        {"m.identity/1": None}, {"m.identity/1": None, "m.identity/config.pbtxt": ""}
    ),
    "artifact.missing": Case(
        python('default_model_filename: "gone.py"'), python(""), at="default_model_filename"
    ),
    "artifact.escapes": Case(
        python('default_model_filename: "../1/model.py"'),
        python('default_model_filename: "model.py"'),
    ),
    # Backend.
    "backend.undetermined": Case({"m/1/weights.bin": "x"}, {"m/1/model.py": MODEL_PY}),
    "backend.ensemble": Case(
        {**ensemble(XY), "e/config.pbtxt": 'platform: "ensemble"'}, ensemble(XY)
    ),
    "backend.platform": Case(
        onnx('platform: "tensorrt_plan"'), onnx('platform: "onnxruntime_onnx"'), at="platform"
    ),
    "backend.unknown": Case(
        {"m/config.pbtxt": 'backend: "pyhton"', "m/1": None},
        {"m/config.pbtxt": 'backend: "mine"', "m/1": None, "m/libtriton_mine.so": "x"},
        at="backend",
    ),
    "backend.repository-agent": Case(
        python('model_repository_agents { agents { name: "none" } }'),
        python('model_repository_agents { agents { name: "checksum" } }'),
    ),
    # Tensors.
    "tensor.name": Case(python("input { data_type: TYPE_FP32 dims: 1 }"), python(IO)),
    "tensor.data-type": Case(python('input { name: "X" dims: 1 }'), python(IO)),
    "tensor.dims": Case(
        python('input { name: "X" data_type: TYPE_FP32 dims: [ 2, 0 ] }'),
        python('input { name: "X" data_type: TYPE_FP32 dims: [ 2, -1 ] }'),
        at="input[0].dims[1]",
    ),
    "tensor.duplicate": Case(python(f"{IO} {IO}"), python(IO)),
    "reshape.dims": Case(
        python('input { name: "X" data_type: TYPE_FP32 dims: 4 reshape { shape: [ 0 ] } }'),
        python('input { name: "X" data_type: TYPE_FP32 dims: 4 reshape { shape: [ 4 ] } }'),
    ),
    "reshape.empty": Case(
        python('input { name: "X" data_type: TYPE_FP32 dims: 1 reshape { } }'),
        python('max_batch_size: 1 input { name: "X" data_type: TYPE_FP32 dims: 1 reshape { } }'),
    ),
    "reshape.size": Case(
        python(
            'input { name: "X" data_type: TYPE_FP32 dims: [ 2, 4, -1, 6 ]'
            " reshape { shape: [ 8, -1, 5 ] } }"
        ),
        python(
            'input { name: "X" data_type: TYPE_FP32 dims: [ 2, 4, -1, 6 ]'
            " reshape { shape: [ 8, -1, 1, 6 ] } }"
        ),
    ),
    "format.rank": Case(
        python('input { name: "X" data_type: TYPE_FP32 format: FORMAT_NHWC dims: [ 4, 4 ] }'),
        python('input { name: "X" data_type: TYPE_FP32 format: FORMAT_NHWC dims: [ 4, 4, 3 ] }'),
    ),
    "format.shape-tensor": Case(
        python('input { name: "X" data_type: TYPE_INT32 dims: 1 is_shape_tensor: true }'),
        plan('input { name: "X" data_type: TYPE_INT32 dims: 1 is_shape_tensor: true }'),
    ),
    "format.non-linear": Case(
        plan('input { name: "X" data_type: TYPE_FP16 dims: 4 is_non_linear_format_io: true }'),
        plan(
            'input { name: "X" data_type: TYPE_FP16 dims: [4, 4, 4] is_non_linear_format_io: true }'
        ),
    ),
    # Batching.
    "batching.max-batch-size": Case(python("max_batch_size: -1"), python("max_batch_size: 0")),
    "batching.preferred-size": Case(
        python("max_batch_size: 4 dynamic_batching { preferred_batch_size: [ 2, 8 ] }"),
        python("max_batch_size: 8 dynamic_batching { preferred_batch_size: [ 2, 8 ] }"),
        at="dynamic_batching.preferred_batch_size[1]",
    ),
    "batching.default-priority": Case(
        python("dynamic_batching { priority_levels: 2 }"),
        python("dynamic_batching { priority_levels: 2 default_priority_level: 1 }"),
    ),
    "batching.priority-policy": Case(
        python(
            "dynamic_batching { priority_levels: 2 default_priority_level: 1"
            " priority_queue_policy { key: 3 value { } } }"
        ),
        python(
            "dynamic_batching { priority_levels: 2 default_priority_level: 1"
            " priority_queue_policy { key: 2 value { } } }"
        ),
    ),
    "batching.order-levels": Case(
        python(
            "dynamic_batching { priority_levels: 2 default_priority_level: 1"
            " preserve_ordering: true }"
        ),
        python("dynamic_batching { preserve_ordering: true }"),
    ),
    "batching.order-delay": Case(
        python(
            "dynamic_batching { preserve_ordering: true default_queue_policy"
            " { timeout_action: DELAY default_timeout_microseconds: 9 } }"
        ),
        python(
            "dynamic_batching { preserve_ordering: true default_queue_policy"
            " { timeout_action: REJECT default_timeout_microseconds: 9 } }"
        ),
    ),
    "cache.sequence": Case(
        python("response_cache { enable: true } sequence_batching { }"),
        python("response_cache { enable: true } dynamic_batching { }"),
    ),
    "cache.decoupled": Case(
        python("response_cache { enable: true } model_transaction_policy { decoupled: true }"),
        python("response_cache { enable: true }"),
    ),
    # Sequences.
    "sequence.control-name": Case(
        sequence("control_input { }"), sequence('control_input { name: "C" }')
    ),
    "sequence.control-kind": Case(
        sequence(
            'control_input { name: "A" control { int32_false_true: [ 0, 1 ] } }'
            'control_input { name: "B" control { int32_false_true: [ 0, 1 ] } }'
        ),
        control("int32_false_true: [ 0, 1 ]"),
    ),
    "sequence.control-value": Case(
        control("fp32_false_true: [ 0 ]"), control("fp32_false_true: [ 0, 1 ]")
    ),
    "sequence.correlation-id": Case(
        control("kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_FP32"),
        control("kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64"),
    ),
    "sequence.oldest-preferred": Case(
        python("max_batch_size: 2 sequence_batching { oldest { preferred_batch_size: 4 } }"),
        python("max_batch_size: 4 sequence_batching { oldest { preferred_batch_size: 4 } }"),
    ),
    "sequence.slot-utilization": Case(
        sequence("direct { minimum_slot_utilization: 1.5 }"),
        sequence("direct { minimum_slot_utilization: 0.5 }"),
    ),
    "state.one-initial": Case(state("initial_state { } initial_state { }"), state("")),
    "state.input-once": Case(
        python(
            "sequence_batching { "
            + 2
            * (
                'state { input_name: "S" data_type: TYPE_FP32 dims: 1 initial_state '
                '{ name: "i" data_type: TYPE_FP32 dims: 1 zero_data: true } }'
            )
            + "}"
        ),
        state('initial_state { name: "i" data_type: TYPE_FP32 dims: 2 zero_data: true }'),
    ),
    "state.initial-name": Case(
        state("initial_state { data_type: TYPE_FP32 dims: 2 zero_data: true }"),
        state('initial_state { name: "i" data_type: TYPE_FP32 dims: 2 zero_data: true }'),
    ),
    "state.initial-type": Case(
        state('initial_state { name: "i" data_type: TYPE_INT8 dims: 2 zero_data: true }'),
        state('initial_state { name: "i" data_type: TYPE_FP32 dims: 2 zero_data: true }'),
    ),
    "state.initial-dims": Case(
        state('initial_state { name: "i" data_type: TYPE_FP32 dims: -1 zero_data: true }'),
        state('initial_state { name: "i" data_type: TYPE_FP32 dims: 2 zero_data: true }'),
    ),
    "state.initial-data": Case(
        state(
            'initial_state { name: "i" data_type: TYPE_FP32 dims: 2 data_file: "d" }',
            **{"initial_state/d": b"1234567"},
        ),
        state(
            'initial_state { name: "i" data_type: TYPE_FP32 dims: 2 data_file: "d" }',
            **{"initial_state/d": b"12345678"},
        ),
    ),
    "state.growable": Case(state("use_growable_memory: true"), state("")),
    # Batch inputs and outputs.
    "batch-io.kind": Case(
        python(f'{IO} batch_input {{ kind: 9 data_type: TYPE_INT32 source_input: "X" }}'),
        python(f'{IO} batch_input {{ data_type: TYPE_INT32 source_input: "X" }}'),
    ),
    "batch-io.source": Case(
        python(f'{IO} batch_input {{ data_type: TYPE_INT32 source_input: "Q" }}'),
        python(f'{IO} batch_input {{ data_type: TYPE_INT32 source_input: "X" }}'),
    ),
    "batch-io.data-type": Case(
        python(f'{IO} batch_input {{ data_type: TYPE_INT64 source_input: "X" }}'),
        python(f'{IO} batch_input {{ data_type: TYPE_FP32 source_input: "X" }}'),
    ),
    "batch-io.target": Case(
        python(f'{IO} batch_output {{ target_name: ["Y", "Y"] source_input: "X" }}'),
        python(f'{IO} batch_output {{ target_name: ["Y"] source_input: "X" }}'),
    ),
    # Instances.
    "instance.gpus-without-gpu": Case(
        python("instance_group { kind: KIND_CPU gpus: 0 }"),
        python("instance_group { kind: KIND_GPU gpus: 0 }"),
    ),
    "instance.kind": Case(
        python("instance_group { kind: 9 }"), python("instance_group { kind: 2 }")
    ),
    "instance.no-gpu": Case(
        python(GPU.format("gpus: 2")), python(GPU.format("gpus: 1")), Target(gpus=2)
    ),
    "instance.profile": Case(
        python('instance_group { profile: "0" }'), plan('instance_group { profile: "0" }')
    ),
    "instance.passive": Case(
        python("instance_group { passive: true }"),
        python("instance_group { passive: true } instance_group { }"),
    ),
    "instance.ensemble": Case(ensemble(XY, more="instance_group { }"), ensemble(XY)),
    "rate-limiter.global": Case(
        python(RESOURCE.format("") + RESOURCE.format("global: true")),
        python(RESOURCE.format("") + RESOURCE.format("")),
        Target(rate_limit=True),
    ),
    "rate-limiter.global-off": Case(
        python(RESOURCE.format("") + RESOURCE.format("global: true")),
        python(RESOURCE.format("") + RESOURCE.format("")),
    ),
    # Warmup.
    "warmup.ensemble": Case(ensemble(XY, more="model_warmup { }"), ensemble(XY)),
    "warmup.free-dim": Case(
        warmup("data_type: TYPE_FP32 dims: -1 zero_data: true"),
        warmup("data_type: TYPE_FP32 dims: 4 zero_data: true"),
    ),
    "warmup.data": Case(
        warmup('data_type: TYPE_FP32 dims: 4 input_data_file: "d"', **{"warmup/d": b"too short"}),
        warmup('data_type: TYPE_FP32 dims: 4 input_data_file: "d"', **{"warmup/d": bytes(16)}),
        at='model_warmup[0].inputs["X"].input_data_file',
    ),
    "warmup.inputs": Case(
        python(f'{IO} model_warmup {{ name: "w" batch_size: 1 }}'),
        warmup("data_type: TYPE_FP32 dims: 4 zero_data: true"),
    ),
    "warmup.required-inputs": Case(
        python(
            """input { name: "X" data_type: TYPE_FP32 dims: 1 }
            input { name: "O" data_type: TYPE_FP32 dims: 1 optional: true }
            model_warmup { batch_size: 1 inputs { key: "O"
            value { data_type: TYPE_FP32 dims: 1 zero_data: true } } }"""
        ),
        warmup("data_type: TYPE_FP32 dims: 4 zero_data: true"),
    ),
    "warmup.shape": Case(
        warmup("data_type: TYPE_FP32 dims: [ 1, 4 ] zero_data: true"),
        warmup("data_type: TYPE_FP32 dims: 4 zero_data: true"),
        at='model_warmup[0].inputs["X"].dims',
    ),
    # Metrics, labels, optimization, parameters.
    "metrics.family": Case(
        python("model_metrics { metric_control { histogram_options { buckets: 1 } } }"),
        python(
            'model_metrics { metric_control { metric_identifier { family: "f" }'
            " histogram_options { buckets: 1 } } }"
        ),
        Target(release="24.11"),
    ),
    "metrics.buckets": Case(
        python('model_metrics { metric_control { metric_identifier { family: "f" } } }'),
        python(
            'model_metrics { metric_control { metric_identifier { family: "f" }'
            " histogram_options { buckets: 1 } } }"
        ),
        Target(release="24.11"),
    ),
    "labels.file": Case(
        python('output { name: "Y" data_type: TYPE_FP32 dims: 1 label_filename: "l.txt" }'),
        python(
            'output { name: "Y" data_type: TYPE_FP32 dims: 1 label_filename: "l.txt" }',
            **{"l.txt": "cat"},
        ),
        at="output[0].label_filename",
    ),
    "labels.outside": Case(
        python(
            'output { name: "Y" data_type: TYPE_FP32 dims: 1 label_filename: "../l.txt" }',
            **{"../l.txt": "cat"},
        ),
        python(
            'output { name: "Y" data_type: TYPE_FP32 dims: 1 label_filename: "1/../l.txt" }',
            **{"l.txt": "cat"},
        ),
        Target(release="24.10"),
    ),
    "optimization.ensemble": Case(ensemble(XY, more="optimization { }"), ensemble(XY)),
    "optimization.accelerator": Case(
        onnx(
            "optimization { execution_accelerators { cpu_execution_accelerator"
            ' { name: "tensorrt" } } }'
        ),
        onnx(
            "optimization { execution_accelerators { gpu_execution_accelerator"
            ' { name: "tensorrt" } } }'
        ),
    ),
    "optimization.ignored-accelerator": Case(
        python(
            "optimization { execution_accelerators { gpu_execution_accelerator"
            ' { name: "tensorrt" } } }'
        ),
        onnx(
            "optimization { execution_accelerators { gpu_execution_accelerator"
            ' { name: "tensorrt" } } }'
        ),
    ),
    "parameters.onnx-number": Case(
        onnx('parameters { key: "execution_mode" value { string_value: "2" } }'),
        onnx('parameters { key: "execution_mode" value { string_value: "1" } }'),
        at='parameters["execution_mode"]',
    ),
    "parameters.onnx-boolean": Case(
        onnx('parameters { key: "enable_mem_arena" value { string_value: "maybe" } }'),
        onnx('parameters { key: "enable_mem_arena" value { string_value: "1" } }'),
    ),
    "parameters.force-cpu": Case(
        python('parameters { key: "FORCE_CPU_ONLY_INPUT_TENSORS" value { string_value: "1" } }'),
        python('parameters { key: "FORCE_CPU_ONLY_INPUT_TENSORS" value { string_value: "no" } }'),
    ),
    "parameters.batch-strategy": Case(
        python(
            'sequence_batching { } parameters { key: "TRITON_BATCH_STRATEGY_PATH"'
            ' value { string_value: "/b.so" } }'
        ),
        python("sequence_batching { }"),
    ),
    "parameters.batch-strategy-file": Case(
        python('parameters { key: "TRITON_BATCH_STRATEGY_PATH" value { string_value: "/b.so" } }'),
        python(""),
    ),
    # Python models.
    "python.source": Case(python(IO, **{"1/model.py": "class TritonPythonModel\n"}), python(IO)),
    "python.class": Case(
        python(IO, **{"1/model.py": "class Model:\n    pass\n"}),
        python(IO, **{"1/model.py": "from helper import *\n"}),
    ),
    "python.execute": Case(
        python(IO, **{"1/model.py": "class TritonPythonModel:\n    pass\n"}),
        python(IO, **{"1/model.py": "class TritonPythonModel(Base):\n    pass\n"}),
    ),
    "python.auto-complete": Case(
        python(
            IO,
            **{"1/model.py": MODEL_PY + "    def auto_complete_config(config):\n        pass\n"},
        ),
        python(
            IO,
            **{
                "1/model.py": MODEL_PY
                + "    def auto_complete_config(config):\n        return config\n"
            },
        ),
    ),
    "python.environment": Case(
        python(
            'parameters { key: "EXECUTION_ENV_PATH" value'
            ' { string_value: "$$TRITON_MODEL_DIRECTORY/e.tar.gz" } }'
        ),
        python(
            'parameters { key: "EXECUTION_ENV_PATH" value'
            ' { string_value: "$$TRITON_MODEL_DIRECTORY/e.tar.gz" } }',
            **{"e.tar.gz": "x"},
        ),
    ),
    "python.environment-outside": Case(
        python('parameters { key: "EXECUTION_ENV_PATH" value { string_value: "/e.tar.gz" } }'),
        python(""),
    ),
    # ONNX graphs.
    "onnx.file": Case(onnx("", b"junk"), onnx("")),
    "onnx.external-data": Case(
        onnx("", external(400), **{"1/weights.bin": bytes(399)}),
        onnx("", external(400), **{"1/weights.bin": bytes(400)}),
    ),
    "onnx.release": Case(
        onnx("", graph(opset=22)), onnx("", graph(opset=21)), Target(release="24.10")
    ),
    "onnx.batch-dim": Case(
        onnx(f"max_batch_size: 4 {IO}", graph([2, 4])), onnx(f"max_batch_size: 4 {IO}")
    ),
    "onnx.inputs": Case(
        onnx(f"max_batch_size: 4 {IO}", graph(extra=["MASK"])), onnx(f"max_batch_size: 4 {IO}")
    ),
    "onnx.outputs": Case(
        onnx(f'max_batch_size: 4 {IO} output {{ name: "Q" data_type: TYPE_FP32 dims: 1 }}'),
        onnx(f"max_batch_size: 4 {IO}"),
        at="output[1].name",
    ),
    "onnx.data-type": Case(
        onnx(f"max_batch_size: 4 {IO}", graph(data_type=TensorProto.INT64)),
        onnx(f"max_batch_size: 4 {IO}"),
    ),
    "onnx.input-dims": Case(
        onnx(f"max_batch_size: 4 {IO}", graph(["batch", 5])), onnx(f"max_batch_size: 4 {IO}")
    ),
    "onnx.output-dims": Case(
        onnx(f"max_batch_size: 4 {IO}", graph(["batch", "free"])),
        onnx(f"max_batch_size: 4 {IO}"),
        at="output[0].dims",
    ),
    "onnx.ragged": Case(
        onnx(
            """max_batch_size: 4 input { name: "X" data_type: TYPE_FP32 dims: -1
            allow_ragged_batch: true } output { name: "Y" data_type: TYPE_FP32 dims: -1 }""",
            graph(["batch", "free"]),
        ),
        onnx(
            """max_batch_size: 4 input { name: "X" data_type: TYPE_FP32 dims: -1
            allow_ragged_batch: true } output { name: "Y" data_type: TYPE_FP32 dims: [ 4 ] }""",
            graph(["free"]),
        ),
    ),
    "onnx.optional": Case(
        onnx(
            """input { name: "X" data_type: TYPE_FP32 dims: 4 }
            input { name: "D" data_type: TYPE_FP32 dims: 1 optional: true } max_batch_size: 4
            output { name: "Y" data_type: TYPE_FP32 dims: 4 }""",
            graph(default=True),
        ),
        onnx(
            """input { name: "X" data_type: TYPE_FP32 dims: [ -1, 4 ] }
            input { name: "D" data_type: TYPE_FP32 dims: 1 optional: true }
            output { name: "Y" data_type: TYPE_FP32 dims: [ -1, 4 ] }""",
            graph(default=True),
        ),
    ),
    "onnx.control": Case(
        onnx(
            f"""max_batch_size: 4 {IO} sequence_batching {{ control_input {{ name: "C"
            control {{ int32_false_true: [ 0, 1 ] }} }} }}""",
            graph(["batch", 1], extra=["C"]),
        ),
        onnx(
            """max_batch_size: 4 input { name: "X" data_type: TYPE_FP32 dims: 1 }
            output { name: "Y" data_type: TYPE_FP32 dims: 1 }
            sequence_batching { control_input { name: "C"
            control { fp32_false_true: [ 0, 1 ] } } }""",
            graph(["batch", 1], extra=["C"]),
        ),
    ),
    "onnx.state": Case(
        onnx(
            f"""max_batch_size: 4 {IO} sequence_batching {{ state {{ input_name: "S"
            output_name: "Y" data_type: TYPE_INT32 dims: 4 }} }}""",
            graph(extra=["S"]),
        ),
        onnx(
            f"""max_batch_size: 4 {IO} sequence_batching {{ state {{ input_name: "S"
            output_name: "Y" data_type: TYPE_FP32 dims: 4 }} }}""",
            graph(extra=["S"]),
        ),
    ),
    # TensorRT plans.
    "tensorrt.file": Case(plan(IO, **{"1/model.plan": b"junk" * 10}), plan(IO)),
    "tensorrt.release": Case(plan(IO, version=(8, 6)), plan(IO), Target(release="24.10")),
    "tensorrt.manifest-version": Case(
        plan(IO, **{"1/model.plan.json": '{"tensorrt_version": "10.7"}'}),
        plan(IO, **{"1/model.plan.json": '{"tensorrt_version": "10.5"}'}),
    ),
    "tensorrt.manifest-file": Case(
        {**plan(IO), "manifest.json": '{"files": {"m/1/model.plan": {"bytes": 7}}}'},
        {**plan(IO), "manifest.json": '{"files": {"m/1/model.plan": {"bytes": 46}}}'},
    ),
    "tensorrt.profile-count": Case(
        plan('instance_group { profile: "1" }', **{"1/model.plan.json": PROFILE}),
        plan('instance_group { profile: "0" }', **{"1/model.plan.json": PROFILE}),
    ),
    "tensorrt.profile-batch": Case(
        plan("max_batch_size: 8", **{"1/model.plan.json": PROFILE}),
        plan("max_batch_size: 4", **{"1/model.plan.json": PROFILE}),
    ),
    "tensorrt.several-versions": Case(plan(IO, **{"2": None}), plan(IO)),
    "tensorrt.capability": Case(
        plan('cc_model_filenames { key: "ampere" value: "model.plan" }'),
        plan('cc_model_filenames { key: "8.6" value: "model.plan" }'),
    ),
    # The ensemble's own graph.
    "ensemble.steps": Case(ensemble(""), ensemble(XY)),
    "ensemble.written-twice": Case(ensemble(XY + XY), ensemble(XY)),
    "ensemble.input-unused": Case(
        ensemble(step({"X": "Q"}, {"Y": "Y"})), ensemble(XY), at="input[0].name"
    ),
    "ensemble.output-unwritten": Case(
        ensemble(step({"X": "Q"}, {"Y": "Y"}) + step({"X": "X"}, {"Y": "Z"})), ensemble(XY)
    ),
    "ensemble.tensor-unused": Case(ensemble(XY + step({"X": "X"}, {"Y": "unused"})), ensemble(XY)),
    # The ensemble and its models.
    "ensemble.model-unknown": Case(ensemble(step({"X": "X"}, {"Y": "Y"}, "nobody")), ensemble(XY)),
    "ensemble.model-failed": Case({**ensemble(XY), "m/1/model.py": "class"}, ensemble(XY)),
    "ensemble.circle": Case(ensemble(step({"X": "X"}, {"Y": "Y"}, "e")), ensemble(XY)),
    "ensemble.version": Case(
        ensemble(step({"X": "X"}, {"Y": "Y"}, version="2")),
        ensemble(step({"X": "X"}, {"Y": "Y"}, version="1")),
        at="ensemble_scheduling.step[0].model_version",
    ),
    "ensemble.version-omitted": Case(
        ensemble(step({"X": "X"}, {"Y": "Y"}, version="")), ensemble(XY)
    ),
    "ensemble.batch-size": Case(
        ensemble(step({"X": "X"}, {"Y": "Y"}, "small"), small=python(f"max_batch_size: 4 {IO}")),
        ensemble(XY),
    ),
    "ensemble.maps": Case(
        ensemble(step({"X": "X"}, {"Y": "Y"}), io=IO.replace("[ 4 ]", "[ 5 ]")), ensemble(XY)
    ),
    "ensemble.streams": Case(
        ensemble(
            step({"X": "X"}, {"Y": "s"}, "stream") + step({"A": "s", "B": "X"}, {"Y": "Y"}, "join"),
            stream=STREAM,
            join=JOIN,
        ),
        ensemble(
            step({"X": "X"}, {"Y": "s", "Z": "t"}, "stream")
            + step({"A": "s", "B": "t"}, {"Y": "Y"}, "join"),
            stream=STREAM,
            join=JOIN,
        ),
    ),
    # Advice.
    "advice.no-dynamic-batching": Case(
        python("max_batch_size: 4"), python("max_batch_size: 4 dynamic_batching { }")
    ),
    "advice.delay-without-batch": Case(
        python("dynamic_batching { max_queue_delay_microseconds: 100 }"),
        python("max_batch_size: 4 dynamic_batching { max_queue_delay_microseconds: 100 }"),
    ),
    "advice.float-image": Case(
        ensemble(
            step({"X": "X"}, {"Y": "Y"}, "vision"),
            vision=python(IO.replace("[ 4 ]", "[ 3, 224, 224 ]")),
        ),
        ensemble(
            step({"X": "X"}, {"Y": "Y"}, "vision"),
            vision=python(IO.replace("[ 4 ]", "[ 3, 224, 224 ]").replace("FP32", "UINT8")),
        ),
    ),
    "advice.unanswered-input": Case(
        ensemble(XY, IO + 'input { name: "O" data_type: TYPE_FP32 dims: 4 optional: true }'),
        ensemble(XY, IO.replace("dims", "optional: true dims", 1)),
    ),
    "advice.step-queue-hangs": Case(
        ensemble(
            step({"X": "X"}, {"Y": "Y"}, "full"),
            full=python(
                "max_batch_size: 8 dynamic_batching { default_queue_policy { max_queue_size: 9 } }"
                + IO
            ),
        ),
        ensemble(
            step({"X": "X"}, {"Y": "Y"}, "full"),
            full=python(
                "max_batch_size: 8 dynamic_batching { default_queue_policy "
                "{ default_timeout_microseconds: 9 } }" + IO
            ),
        ),
        Target(release="24.10"),
    ),
    "advice.no-warmup": Case(onnx(""), onnx("model_warmup { }")),
    "advice.warmup-skipped": Case(
        python('model_warmup { name: "w" }'), python('model_warmup { name: "w" batch_size: 1 }')
    ),
}
CASES["proto.newer-field"].good = python("max_batch_size: 4")


BUILT = """{"versions": {"tensorrt": "10.5.0"}, "files": {"m/1/model.plan": {"bytes": 46}},
"spec": {"stages": {"vision": {"name": "m", "max_batch_size": 4}}}}"""


RECORD = f'"packages": {{"tensorrt": "10.5.0"}}, {BUILT.splitlines()[1][:-1]}'
MANIFESTS = {
    "format 1": BUILT,
    "format 2": f"""{{"format": 2, "files": {{"m/1/model.plan": {{"bytes": 46}}}}, "members":
{{"other": {{"models": ["x"]}}, "p": {{"models": ["m"], "versions": {{"1": {{{RECORD}}}}}}}}}}}""",
}


@pytest.mark.parametrize("written", MANIFESTS)
@pytest.mark.parametrize(
    ("config", "version", "rule"),
    [
        ("max_batch_size: 4", (10, 5), ""),
        ("max_batch_size: 8", (10, 5), "tensorrt.profile-batch"),
        ('max_batch_size: 4 instance_group { profile: "1" }', (10, 5), "tensorrt.profile-count"),
        ("max_batch_size: 4", (10, 7), "tensorrt.manifest-version"),
    ],
)
def test_a_plan_against_our_manifest(
    config: str, version: tuple[int, int], rule: str, written: str, write: Write
) -> None:
    root = write({**plan(config, version=version), "manifest.json": MANIFESTS[written]})
    target = Target(release=f"24.{version[1] + 5:02}")
    errors = {f.rule for f in validate_repository(root, target) if f.severity == "error"}
    assert errors == ({rule} if rule else set())


def test_every_rule_has_a_case() -> None:
    assert set(CASES) == set(RULES)


def test_every_rule_says_why_and_where_from() -> None:
    for rule in RULES.values():
        assert rule.section
        assert rule.reason
        assert rule.source.startswith("https://")
        assert rule.id.partition(".")[2]
        assert rule.check.__doc__ or rule.id.startswith("proto.")


@pytest.mark.parametrize("rule", CASES)
def test_broken(rule: str, write: Write) -> None:
    case = CASES[rule]
    found = [f for f in validate_repository(write(case.bad), case.target) if f.rule == rule]
    assert found
    for finding in found:
        assert finding.severity == RULES[rule].severity
        assert finding.message
        assert finding.mend
    if case.at:
        assert case.at in {finding.field for finding in found}


@pytest.mark.parametrize("rule", CASES)
def test_mended(rule: str, write: Write) -> None:
    case = CASES[rule]
    assert rule not in {f.rule for f in validate_repository(write(case.good), case.target)}
