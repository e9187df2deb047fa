"""Random bytes, random text and random protos as a config: findings, never a traceback."""

import tempfile
from pathlib import Path

import pytest
from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tritonclient.grpc.model_config_pb2 import ModelConfig

from builder.validate import validate_repository
from builder.validate.report import as_json, as_text

from .conftest import MODEL_PY
from .test_rules import graph

_INTEGERS = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
}
_NAMES = st.sampled_from(["", "X", "Y", "m", "e", "python", "onnxruntime", "ensemble", "null"])
_WORDS = [
    *(field.name for field in ModelConfig.DESCRIPTOR.fields),
    *("name", "dims", "data_type", "TYPE_FP32", "key", "value", "step", "model_name", "-1", "0"),
    *("{", "}", "<", ">", "[", "]", ":", ",", ";", '"', "'", '"X"', "#", "\n", "\\", "1e9", "."),
]


def _scalars(field: FieldDescriptor) -> st.SearchStrategy[object]:
    if field.enum_type is not None:
        return st.sampled_from([*(value.number for value in field.enum_type.values), 77, -1])
    if field.type in _INTEGERS:
        low, high = _INTEGERS[field.type]
        return st.one_of(st.integers(max(low, -2), 9), st.integers(low, high))
    if field.type == FieldDescriptor.TYPE_BOOL:
        return st.booleans()
    if field.type == FieldDescriptor.TYPE_STRING:
        return st.one_of(_NAMES, st.text(max_size=6))
    return st.floats(width=32)


def _fill(draw: st.DrawFn, message: Message, descriptor: Descriptor, depth: int) -> None:
    fields = list(descriptor.fields)
    if not fields:
        return
    for index in draw(st.lists(st.integers(0, len(fields) - 1), max_size=5)):
        field = fields[index]
        if field.message_type is None:
            value = draw(_scalars(field))
            if field.is_repeated:
                getattr(message, field.name).append(value)
            else:
                setattr(message, field.name, value)
        elif depth < 5:
            child = getattr(message, field.name)
            if field.message_type.GetOptions().map_entry:
                value_field = field.message_type.fields_by_name["value"]
                key = draw(_scalars(field.message_type.fields_by_name["key"]))
                if value_field.message_type is None:
                    child[key] = draw(_scalars(value_field))
                else:
                    _fill(draw, child[key], value_field.message_type, depth + 1)
            elif field.is_repeated:
                _fill(draw, child.add(), field.message_type, depth + 1)
            else:
                child.SetInParent()
                _fill(draw, child, field.message_type, depth + 1)


@st.composite
def protos(draw: st.DrawFn) -> ModelConfig:
    """Any config, most of whose values are near to valid ones."""
    config = ModelConfig()
    _fill(draw, config, ModelConfig.DESCRIPTOR, 0)
    return config


texts = st.lists(st.sampled_from(_WORDS), max_size=40).map(" ".join)


class Victim:
    """A repository in which one config is written over and over."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for path, content in {
            "m/1/model.py": MODEL_PY.encode(),
            "e/1/model.onnx": graph(),
            "n/config.pbtxt": b'backend: "python" max_batch_size: 4',
            "n/1/model.py": MODEL_PY.encode(),
        }.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)

    def survives(self, config: bytes) -> None:
        """Validate with `config` in two places, and print what was found."""
        for model in ("m", "e"):
            (self.root / model / "config.pbtxt").write_bytes(config)
        findings = validate_repository(self.root)
        as_json(findings)
        as_text(findings, self.root, 3).encode()


def _run(examples: int, strategy: st.SearchStrategy[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        victim = Victim(Path(folder))

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        def never_raises(config: bytes) -> None:
            victim.survives(config)

        never_raises()


_STRATEGIES = {
    "bytes": st.binary(max_size=300),
    "text": texts.map(str.encode),
    "protos": protos().map(lambda config: text_format.MessageToString(config).encode()),
}


@pytest.mark.parametrize("kind", _STRATEGIES)
def test_some(kind: str) -> None:
    _run(100, _STRATEGIES[kind])


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("kind", "examples"), [("bytes", 4000), ("text", 3000), ("protos", 3000)])
def test_ten_thousand(kind: str, examples: int) -> None:
    _run(examples, _STRATEGIES[kind])
