"""What is to be said of the local server before it starts."""

import ipaddress
from pathlib import Path

from rich.console import Console

from builder.errors import ServerError
from builder.releases import release_of, table
from builder.validate import Finding, Target, load_models, release_of_repository, validate_models

_ENDS_THE_SERVER = frozenset({"ensemble.circle", "layout.version-overflow", "metrics.tag"})
"""Rules whose breach ends the whole server, with a log that names no error."""
_NEVER_READY = frozenset({"artifact.negative-version", "artifact.missing"})
"""Rules whose breach a Python model of 24.10 survives in a way: it loads for ever."""


def introduce(console: Console, repository: Path, host: str) -> None:
    """Say which release the local server is and what of a repository it lacks.

    Args:
        console: Where to.
        repository: The folder to serve.
        host: The address that the server listens on.

    Raises:
        BuilderError: the folder holds no model.
        ServerError: the server would end, or wait for a model for ever; one sentence.
    """
    rows = table()
    local = release_of(rows.local)
    models = load_models(repository, Target(release=local.name))
    findings = validate_models(models)
    for finding in findings:
        if finding.rule in _ENDS_THE_SERVER:
            raise ServerError(
                f"{repository}: model {finding.model}: {finding.message}; {finding.mend}"
            )
        backend = models[finding.model].backend
        if finding.rule in _NEVER_READY and finding.severity == "error" and backend == "python":
            why = finding.message.partition(";")[0]
            raise ServerError(
                f"{repository}: model {finding.model}: {why}, so tritonserver would never become "
                f"ready; {finding.mend}"
            )
    _say(console, f"local server: Triton {local.name} ({local.server}), for this machine alone")
    built = release_of(release_of_repository(repository))
    if built.name != local.name:
        _say(
            console,
            f"to serve others: {built.image}, the release that it was built for, or another from "
            f"{rows.floor} on; here ONNX files run on the installed onnxruntime",
        )
    for finding in findings:
        if finding.rule == "proto.newer-field":
            _say(console, f"warning: {_place(repository, finding)}: {finding.message}")
    if not is_loopback(host):
        _say(console, f"warning: --host {host}: {rows.security_advice(local.name)}")


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _place(repository: Path, finding: Finding) -> str:
    return f"{repository / finding.file}:{finding.line}"


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
