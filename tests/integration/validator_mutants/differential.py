"""Mutants judged twice, and the table of the verdicts."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from builder.releases import table
from builder.validate import Finding, Target, load_models, validate_models

from . import artifacts, ensembles, layout, scheduling, serving, tensors
from .mutant import Mutant, Section
from .server import Judge

CORE_SECTIONS = [
    *layout.SECTIONS,
    *serving.SECTIONS,
    *scheduling.SECTIONS,
    *tensors.SECTIONS,
    *ensembles.SECTIONS,
]
"""Sections whose checks are those of Triton's core."""
FILE_SECTIONS = artifacts.SECTIONS
"""Sections whose models are loaded by a backend, at a second or two each."""
LOCAL_RELEASE = table().local
LOCAL_BACKENDS = frozenset({"null", "python", "onnxruntime"})


@dataclass
class Verdict:
    """What both said of a mutant."""

    mutant: Mutant
    triton_accepts: bool
    triton_says: str
    findings: list[Finding]

    @property
    def we_accept(self) -> bool:
        return not any(finding.severity == "error" for finding in self.findings)

    @property
    def agree(self) -> bool:
        return self.triton_accepts == self.we_accept

    def explain(self) -> str:
        """Everything that is needed to mend the rule."""
        config = self.mutant.files.get("config.pbtxt") or b""
        assert isinstance(config, bytes)
        kind = "false accept" if self.we_accept else "false reject"
        return "\n".join(
            [
                f"--- {kind} in {self.mutant.section}: {self.mutant.name} "
                f"{sorted(set(self.mutant.files) - {'config.pbtxt'})}",
                config.decode("utf-8", "replace"),
                f"triton: {self.triton_says or 'loads it'}",
                *(f"we: {f.rule} {f.field}: {f.message}" for f in self.findings),
            ]
        )


def make_mutants(sections: Iterable[Section], count: int, seed: int) -> list[Mutant]:
    """`count` mutants for each weight of each section; the same for the same seed."""
    mutants = []
    for index, section in enumerate(sections):
        rng = Random(f"{seed} {section.name}")
        for number in range(count * section.weight):
            mutant = section.build(rng)
            initials = "".join(word[0] for word in section.name.split())
            mutant.name = f"{initials}{index:02d}_{number:05d}"
            mutants.append(_named(mutant))
    return mutants


def _named(mutant: Mutant) -> Mutant:
    """`@` in a config stands for the mutant's own name."""
    config = mutant.files.get("config.pbtxt")
    if isinstance(config, bytes) and mutant.section != "text proto":
        mutant.files["config.pbtxt"] = config.replace(b'"@', b'"' + mutant.name.encode())
    return mutant


def judge(mutants: list[Mutant], folder: Path, *, rate_limit: bool = False) -> list[Verdict]:
    """Write the mutants into one repository, and let the server and the validator judge each."""
    repository = folder / "repository"
    backends = folder / "backends"
    repository.mkdir(parents=True)
    backends.mkdir()
    for mutant in (*ensembles.STEPS, *mutants):
        mutant.write(repository)
    target = Target(
        release=LOCAL_RELEASE,
        gpus=0,
        rate_limit=rate_limit,
        backends=LOCAL_BACKENDS,
        python_based=frozenset({"onnxruntime"}),
    )
    findings: dict[str, list[Finding]] = {}
    for finding in validate_models(load_models(repository, target)):
        findings.setdefault(finding.model, []).append(finding)
    with Judge(repository, backends, rate_limit=rate_limit) as server:
        said = server.judge([mutant.name for mutant in mutants])
    return [
        Verdict(mutant, *answer, findings.get(mutant.name, []))
        for mutant, answer in zip(mutants, said, strict=True)
    ]


def table(verdicts: Iterable[Verdict]) -> str:
    """Mutants, agreements and disagreements by section, as Markdown."""
    rows: dict[str, list[int]] = {}
    for verdict in verdicts:
        for name in (verdict.mutant.section, "all"):
            row = rows.setdefault(name, [0] * 5)
            row[0] += 1
            row[1 + (not verdict.triton_accepts) + 2 * (not verdict.agree)] += 1
    rows["all"] = rows.pop("all", [0] * 5)
    lines = [
        "| section | mutants | both accept | both reject | false rejects | false accepts |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    lines += [f"| {name} | {' | '.join(map(str, row))} |" for name, row in rows.items()]
    return "\n".join(lines)
