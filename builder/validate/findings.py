"""What the validator reports."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "advice"]
"""`error`: Triton refuses the model. `advice`: Triton loads it, and it could be served better."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What a rule yields: a place in the model and what is wrong there.

    `field` is the path of the config's field (`input[0].dims[1]`, `parameters["KEY"]`), or "" for
    the whole model. `file` is relative to the repository, "" for the model's config. `line` counts
    from 1; 0: the line of `field`. `message` says what and where, `mend` what to do.
    """

    field: str
    message: str
    mend: str
    file: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule broken by a model. `line` is 0 where a file has no line to show."""

    model: str
    rule: str
    field: str
    message: str
    severity: Severity
    file: str
    line: int
    mend: str

    @property
    def order(self) -> tuple[str, int, str, int, str, str]:
        """Sort key: by model, errors before advice, then by place."""
        return (
            self.model,
            0 if self.severity == "error" else 1,
            self.file,
            self.line,
            self.rule,
            self.field,
        )

    def as_json(self) -> dict[str, str | int]:
        """The finding as one object of `builder validate --format json`."""
        return {
            "model": self.model,
            "rule": self.rule,
            "field": self.field,
            "message": self.message,
            "severity": self.severity,
            "file": self.file,
            "line": self.line,
            "mend": self.mend,
        }
