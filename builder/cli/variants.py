"""The table of candidates that a build measured."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table


def variants_table(name: str, outcome: Mapping[str, Any]) -> Table:
    """A row for each candidate, and the reason of the choice below.

    Args:
        name: The model.
        outcome: As the manifest has it under `precision`.
    """
    variants = outcome["variants"]
    threads = next((v["threads"] or "all" for v in variants if v.get("speed")), None)
    title = f"Precision of {name}" + (f", speed on {threads} thread(s)" if threads else "")
    table = Table(title=title, caption=outcome["reason"])
    table.add_column("precision", no_wrap=True)
    for column in ("size", "error", "cosine", "accuracy", "speed"):
        table.add_column(column, justify="right")
    table.add_column("")
    for variant in variants:
        chosen = "chosen" if variant["precision"] == outcome["precision"] else ""
        if "failure" in variant:
            table.add_row(variant["precision"], "", "", "", "", "", variant["failure"])
            continue
        accuracy = variant["accuracy"]
        kept = variant["kept_in_fp32"]
        table.add_row(
            variant["precision"] + (f" ({kept} of {variant['products']} fp32)" if kept else ""),
            f"{variant['bytes'] / 1e6:.1f} MB",
            f"{variant['max_abs_error']:.1e}",
            f"{variant['min_cosine']:.6f}",
            "" if accuracy is None else f"{accuracy:.2%}",
            f"{variant['speed']:.2f}x" if variant["speed"] else "",
            chosen if variant["within"] else f"{chosen} over tolerance".strip(),
        )
    return table
