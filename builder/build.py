"""The one build: select, export, optimize, verify, render, validate, publish."""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.cache.store import Store
from builder.errors import PublishError, SpecError
from builder.member import MemberBuild
from builder.progress import Progress
from builder.publish.manifest import FileRecord, Manifest, hashed_files, read_manifest
from builder.publish.ownership import refuse_clashes
from builder.publish.staging import Staging, staging_folder
from builder.recipe import Artifact, Made, Workshop
from builder.recipes import recipes_of
from builder.render.models import REQUIREMENTS_NAME, model_sizes, write_requirements
from builder.spec.load import AnySpec
from builder.validate import Finding, Target, validate_repository
from builder.verify.measure import ParityRow, require_parity


@dataclass(frozen=True)
class BuildReport:
    """What a build wrote.

    Attributes:
        repository: The published folder.
        models: Model name -> bytes of its files, in pipeline order.
        parity: The parity table.
        carried: Entries of the old repository that belong to no member and were kept.
        precision: Model name -> the candidates that were measured for it, and the choice.
        members: Member -> the version that answers.
        notes: What the user should know, a sentence each.
    """

    repository: Path
    models: dict[str, int]
    parity: list[ParityRow]
    carried: list[str] = field(default_factory=list)
    precision: dict[str, Any] = field(default_factory=dict)
    members: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Build:
    """One run of the builder."""

    def __init__(
        self,
        spec: AnySpec,
        spec_path: Path,
        target: Path,
        progress: Progress,
        store: Store | None = None,
        version: str | None = None,
    ) -> None:
        """Prepare a build.

        Args:
            spec: The spec, of any kind.
            spec_path: Its file; local paths in it are relative to its folder.
            target: The repository to write.
            progress: Told about each step.
            store: The cache of artifacts; None: everything is made anew.
            version: The version to write, a number or `next`; None: the one that answers, else 1.
        """
        self._spec = spec
        self._spec_path = spec_path
        self._target = target
        self._workshop = Workshop(progress, store)
        self._progress = progress
        self._version = version
        self._notes: list[str] = []

    def run(self, only: str | None = None) -> BuildReport:
        """Build and publish.

        Args:
            only: Name of one model, or of one member of a repository spec, to build anew; the
                others stay as they are.

        Raises:
            BuilderError: a step failed; the old repository is untouched.
        """
        with staging_folder(self._target, self._wait) as staging:
            manifest = read_manifest(staging.target)
            members = self._members(manifest, staging, only)
            self._start(members)
            self._progress.step("render configs")
            for member in members:
                member.write()
            rows, precision = self._artifacts(members)
            for member in members:
                member.arrange()
            carried = self._merge(members, manifest, staging)
            self._progress.step("validate")
            models = [config.name for member in members for config in member.configs]
            _require_valid(staging, self._spec.triton_release, models)
            self._progress.step("publish")
            self._write_manifest(members, manifest, staging.path, rows, precision)
            staging.publish()
        configs = [config for member in members for config in member.configs]
        sizes = model_sizes(self._target, configs)
        live = {member.name: member.version for member in members}
        return BuildReport(self._target, sizes, rows, carried, precision, live, self._notes)

    def _wait(self) -> None:
        self._progress.step(f"wait for another build that writes to {self._target}")

    def _members(self, manifest: Manifest, staging: Staging, only: str | None) -> list[MemberBuild]:
        """The members to build; `only` of a repository spec leaves the others out."""
        recipes = recipes_of(self._spec, self._spec_path, staging.target)
        members = [
            MemberBuild(recipe, origin, manifest, staging, self._workshop, self._version)
            for recipe, origin in recipes
        ]
        _refuse_doubles(members)
        if only is None:
            return members
        if len(members) > 1 and only in {member.name for member in members}:
            return [member for member in members if member.name == only]
        found = [m for m in members if only in {config.name for config in m.configs}]
        if not found:
            names = [config.name for member in members for config in member.configs]
            raise SpecError(f"--only {only}: the spec has no such model; it has {', '.join(names)}")
        found[0].select(only)
        return found

    def _start(self, members: list[MemberBuild]) -> None:
        steps = sum(
            2 * len(member.artifacts) + bool(member.artifacts and member.recipe.loads)
            for member in members
        )
        self._progress.start(3 + steps)

    def _artifacts(self, members: list[MemberBuild]) -> tuple[list[ParityRow], dict[str, Any]]:
        """Make what is not in the cache; the parity of all, and what was measured of each."""
        every = [(member, artifact) for member in members for artifact in member.artifacts]
        made: dict[str, Made] = {}
        for member, artifact in every:
            found = artifact.take(member.folder(artifact.model))
            if found is not None:
                made[artifact.model] = found
        missing: list[tuple[MemberBuild, Artifact]] = [
            (member, artifact) for member, artifact in every if artifact.model not in made
        ]
        for member, artifact in missing:
            made[artifact.model] = artifact.make(member.folder(artifact.model))
        rows = [row for _, artifact in every for row in made[artifact.model].rows]
        self._notes = [note for one in made.values() for note in one.notes]
        require_parity(rows)
        for member, artifact in every:
            artifact.finish(member.folder(artifact.model))
        outcomes = {name: one.outcome for name, one in made.items() if one.outcome}
        return rows, outcomes

    def _merge(self, members: list[MemberBuild], manifest: Manifest, staging: Staging) -> list[str]:
        """Bring in what the build does not write; names of what belongs to no member."""
        replaced: set[str] = {REQUIREMENTS_NAME}
        for member in members:
            models = [config.name for config in member.configs]
            refuse_clashes(staging.target, manifest, member.name, models, staging.path)
            member.keep_foreign_files()
            replaced.update(models, member.old_models)
        carried = staging.carry(replaced)
        others = [
            record
            for name, record in manifest.members.items()
            if name not in {member.name for member in members}
        ]
        lines = [line for member in members for line in member.recipe.requirements()]
        lines += [line for record in others for line in record.requirements]
        write_requirements(lines, staging.path)
        return [name for name in carried if name not in manifest.owners]

    def _write_manifest(
        self,
        members: list[MemberBuild],
        manifest: Manifest,
        folder: Path,
        rows: list[ParityRow],
        precision: dict[str, Any],
    ) -> None:
        records, files = dict(manifest.members), dict(manifest.files)
        for member in members:
            records[member.name] = member.record(rows, precision)
            for path in manifest.files_of(member.old_models):
                del files[path]
            models = [config.name for config in member.configs]
            foreign = set(member.foreign)
            written = hashed_files(folder, models)
            files |= {path: file for path, file in written.items() if path not in foreign}
        files[REQUIREMENTS_NAME] = FileRecord.of(folder / REQUIREMENTS_NAME)
        Manifest(members=records, files=dict(sorted(files.items()))).write(folder)


def _refuse_doubles(members: list[MemberBuild]) -> None:
    """Members and models of one build have names of their own."""
    names: dict[str, str] = {}
    for member in members:
        for config in member.configs:
            other = names.setdefault(config.name, member.name)
            if other != member.name:
                raise SpecError(
                    f"{other} and {member.name} both have a model named '{config.name}'; names "
                    "must differ"
                )


def _require_valid(staging: Staging, release: str, models: Collection[str]) -> None:
    """Refuse a repository whose models Triton would not load.

    Args:
        staging: The repository as it would be, and where the one that is stands.
        release: Triton release that it is built for.
        models: Names of the models that the build writes; of the others only what it breaks
            counts, an ensemble over them for instance.

    Raises:
        PublishError: names each model and why.
    """
    found = _errors(staging.path, release)
    errors = [finding for finding in found if finding.model in models]
    if len(errors) < len(found) and staging.target.is_dir():
        broken = {finding.model for finding in _errors(staging.target, release)}
        errors += [f for f in found if f.model not in broken and f.model not in models]
    if errors:
        lines = [f"{f.model}: {f.message} ({f.rule})" for f in errors]
        raise PublishError("nothing was published; Triton would refuse it:\n" + "\n".join(lines))


def _errors(repository: Path, release: str) -> list[Finding]:
    findings = validate_repository(repository, Target(release=release))
    return [finding for finding in findings if finding.severity == "error"]
