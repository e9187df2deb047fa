"""The text of `config.pbtxt`."""

from collections.abc import Iterator

from builder.validate.findings import Problem
from builder.validate.model import Model
from builder.validate.registry import Check, rule

_REASONS = {
    "syntax": "Triton parses config.pbtxt as protobuf text format and refuses what is none",
    "unknown-field": "the parser refuses a config with a field that the message does not have",
    "newer-field": "the proto of a release is fixed; a field of a later one is unknown to it",
    "enum": "an enum field takes only the names that its type defines",
    "escape": "a backslash in a string starts one of the escapes of C",
    "number": "a number is digits with nothing but a minus in front",
    "repeated": "a field that is not repeated, and a oneof, may be set only once",
}


def _of_kind(kind: str) -> Check:
    def check(model: Model) -> Iterator[Problem]:
        for problem in model.parsed.problems:
            if problem.kind == kind:
                yield Problem(problem.field, problem.message, problem.mend, line=problem.line)

    return check


for _kind, _reason in _REASONS.items():
    rule(
        f"proto.{_kind}",
        section="text proto",
        reason=_reason,
        source="proto" if _kind == "newer-field" else "textproto",
        needs_config=False,
    )(_of_kind(_kind))


@rule(
    "proto.unreadable",
    section="text proto",
    reason="a config that cannot be read cannot be served",
    source="repository",
    needs_config=False,
)
def config_is_readable(model: Model) -> Iterator[Problem]:
    """The config is a regular file of a sane size inside the repository."""
    if model.config_read_error:
        yield Problem(
            "",
            f"config.pbtxt cannot be read: {model.config_read_error}",
            "put a plain text file there",
        )
