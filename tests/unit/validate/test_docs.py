"""`docs/validator.md` tells of the rules that there are."""

from pathlib import Path

from builder.validate.catalogue import as_markdown

DOCS = Path(__file__).resolve().parents[3] / "docs" / "validator.md"


def test_the_rules_are_those_of_the_code() -> None:
    text = DOCS.read_text()
    assert as_markdown() in text, "run python -m builder.validate.catalogue and paste the tables"


def test_the_table_of_verdicts_has_no_disagreement() -> None:
    rows = [line.split("|")[1:-1] for line in DOCS.read_text().splitlines() if "| all |" in line]
    ((_, mutants, accepted, rejected, false_rejects, false_accepts),) = rows
    assert int(mutants) >= 3000
    assert int(accepted) + int(rejected) == int(mutants)
    assert int(false_rejects) == int(false_accepts) == 0
