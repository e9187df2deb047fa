"""Findings as GitHub annotations: `python -m builder.validate.annotations FINDINGS.json DIR`.

https://docs.github.com/en/actions/reference/workflow-commands-for-github-actions
"""

import json
import sys
from pathlib import Path, PurePosixPath
from typing import Any

_LEVELS = {"error": "error", "advice": "notice"}


def annotation(finding: dict[str, Any], repository: str) -> str:
    """The workflow command that shows a finding at its line."""
    place = PurePosixPath(repository) / finding["file"]
    properties = {
        "file": str(place),
        "line": finding["line"] or 1,
        "title": finding["rule"],
    }
    told = ",".join(f"{key}={_property(str(value))}" for key, value in properties.items())
    text = f"{finding['message']} -> {finding['mend']}"
    return f"::{_LEVELS[finding['severity']]} {told}::{_escape(text)}"


def _escape(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _escape(text).replace(":", "%3A").replace(",", "%2C")


def main() -> None:
    """Print the annotations of a file that `builder validate --format json` wrote."""
    findings, repository = sys.argv[1:3]
    for finding in json.loads(Path(findings).read_text())["findings"]:
        print(annotation(finding, repository).encode("utf-8", "backslashreplace").decode())


if __name__ == "__main__":
    main()
