"""The spec's JSON Schema, so that editors complete and check it."""

import json

from pydantic import TypeAdapter

from builder.spec.load import AnySpec


def schema_text() -> str:
    """The JSON Schema of a spec file of any kind, as it stands in `specs/spec.schema.json`."""
    return json.dumps(TypeAdapter(AnySpec).json_schema(), indent=2) + "\n"
