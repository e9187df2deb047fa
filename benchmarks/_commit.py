"""The commit that a result is measured at."""

import subprocess


def commit() -> str:
    """Its short hash; empty outside a checkout."""
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
