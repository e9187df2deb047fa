"""The spec's JSON Schema, so that editors complete and check it."""

import json

from builder.spec.models import Spec


def schema_text() -> str:
    """The JSON Schema of a spec file, as it stands in `specs/spec.schema.json`."""
    return json.dumps(Spec.model_json_schema(), indent=2) + "\n"
