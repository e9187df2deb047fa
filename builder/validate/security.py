"""What is to be said of the release itself."""

from builder.releases import table
from builder.validate.findings import Finding
from builder.validate.target import Target


def release_findings(target: Target, *, strict: bool = False) -> list[Finding]:
    """A finding on a release with known critical vulnerabilities; it belongs to no model.

    Args:
        target: The server.
        strict: Whether it is an error.
    """
    rows = table()
    told = rows.security_advice(target.release)
    if not told:
        return []
    return [
        Finding(
            model="",
            rule="release.security",
            field="",
            message=told,
            severity="error" if strict else "advice",
            file="",
            line=0,
            mend=f"serve with Triton {rows.floor} or newer, or let nobody else reach the server",
        )
    ]
