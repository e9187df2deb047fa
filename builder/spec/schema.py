"""The spec's JSON Schema, so that editors complete and check it."""

import json

from pydantic import TypeAdapter

from builder.spec.models import Spec
from builder.spec.onnx_file import OnnxSpec
from builder.spec.task import TaskSpec


def schema_text() -> str:
    """The JSON Schema of a spec file of any kind, as it stands in `specs/spec.schema.json`."""
    return json.dumps(TypeAdapter(Spec | TaskSpec | OnnxSpec).json_schema(), indent=2) + "\n"
