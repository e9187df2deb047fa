"""Where results are kept: rows by group, each with the commit that it was measured at."""

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._commit import commit


def machine() -> dict[str, Any]:
    """What it was measured on, and at which commit."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return {"cpu": cpu, "cores": os.cpu_count(), "python": platform.python_version(),
            "load_average": os.getloadavg()[0], "commit": commit()}  # fmt: skip


def keep(
    output: Path,
    run: dict[str, Any],
    groups: Sequence[str],
    group: str,
    rows: list[dict[str, Any]],
) -> None:
    """Put the rows of a group in the place of its old ones.

    Args:
        output: The file.
        run: `machine`, `threads` and `runs` of this run.
        groups: All groups, in the order of the file.
        group: The one that was measured.
        rows: What was measured.
    """
    old = json.loads(output.read_text())["rows"] if output.is_file() else []
    rows = [{**row, "group": group, "commit": run["machine"]["commit"]} for row in rows]
    kept = [row for row in old if row.get("group") != group]
    rows = sorted(kept + rows, key=lambda row: groups.index(row["group"]))
    result = {**run, "rows": rows}
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=2) + "\n")
