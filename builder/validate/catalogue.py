"""The rule set as the table of `docs/validator.md`: `python -m builder.validate.catalogue`."""

from builder.validate import RULES
from builder.validate.registry import Rule


def as_markdown() -> str:
    """One table for each section: rule, what it asks, why (with Triton's source)."""
    sections: dict[str, list[Rule]] = {}
    for rule in sorted(RULES.values(), key=lambda rule: rule.id):
        sections.setdefault(rule.section, []).append(rule)
    parts = []
    for section, rules in sorted(sections.items(), key=lambda item: item[0].lower()):
        parts += [f"### {section[0].upper()}{section[1:]}", "", "| rule | why |", "|---|---|"]
        parts += [_row(rule) for rule in rules]
        parts.append("")
    return "\n".join(parts)


def _row(rule: Rule) -> str:
    mark = " (advice)" if rule.severity == "advice" else ""
    name = rule.source.rpartition("/")[2]
    reason = rule.reason.replace("|", "\\|")
    return f"| `{rule.id}`{mark} | {reason} ([{name}]({rule.source})) |"


if __name__ == "__main__":
    print(as_markdown())
