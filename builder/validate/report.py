"""Findings for people and for machines."""

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from google.protobuf import text_format

from builder.validate.findings import Finding
from builder.validate.model import Model


def as_json(findings: Sequence[Finding], models: dict[str, Model] | None = None) -> str:
    """`{"findings": [...]}`, with `{"effective": {model: config}}` where `models` is given."""
    content: dict[str, object] = {"findings": [finding.as_json() for finding in findings]}
    if models is not None:
        content["effective"] = {name: effective_text(model) for name, model in models.items()}
    return json.dumps(content, indent=2)


def as_text(findings: Sequence[Finding], root: Path, model_count: int) -> str:
    """Findings by model, each with its place, rule and mend, and a last line that counts them."""
    lines: list[str] = []
    for model, group in groupby(findings, key=lambda finding: finding.model):
        lines.append(printable(model) or "the release")
        for finding in group:
            place = f"{root / finding.file}{f':{finding.line}' if finding.line else ''}"
            lines.append(f"  {printable(place)}: {finding.severity}: {finding.rule}")
            lines.append(f"      {printable(finding.message)}")
            lines.append(f"      -> {printable(finding.mend)}")
    errors = sum(finding.severity == "error" for finding in findings)
    failed = len({f.model for f in findings if f.severity == "error" and f.model})
    lines.append(
        f"{_count(model_count, 'model')}: {_count(errors, 'error')} in {_count(failed, 'model')}, "
        f"{len(findings) - errors} advice"
    )
    return "\n".join(lines)


def effective_text(model: Model) -> str:
    """The config as Triton completes it, as text format; "" where it does not parse."""
    if model.unusable:
        return ""
    return text_format.MessageToString(model.config)


def effective_report(models: dict[str, Model]) -> str:
    """The completed configs of all models, one after the other."""
    parts = []
    for name, model in models.items():
        head = f"# {printable(name)}/config.pbtxt"
        if model.unusable:
            parts.append(f"{head}: does not parse\n")
        else:
            parts.append(f"{head}, as Triton completes it\n{effective_text(model)}")
    return "\n".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def printable(text: str) -> str:
    """`text` without control characters and lone surrogates, which a terminal would act on."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
