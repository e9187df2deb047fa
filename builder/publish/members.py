"""What is done to members of a repository without building: taken out, rolled back."""

from collections.abc import Iterable
from pathlib import Path

from google.protobuf import text_format

from builder.errors import PublishError
from builder.publish.manifest import FileRecord, Manifest, MemberRecord, read_manifest
from builder.publish.ownership import foreign_files
from builder.publish.staging import copy_entry, staging_folder
from builder.publish.versions import parse_config, serving_config
from builder.render.models import REQUIREMENTS_NAME, write_requirements


def known_member(repository: Path, manifest: Manifest, name: str) -> MemberRecord:
    """The record of a member.

    Raises:
        PublishError: the repository has none of that name.
    """
    member = manifest.members.get(name)
    if member is None:
        known = ", ".join(manifest.members) or "none: it was not built by the builder"
        raise PublishError(f"{repository} has no member '{name}'; it has {known}")
    return member


def users_of(repository: Path, models: Iterable[str]) -> dict[str, str]:
    """Ensembles outside of some models that have one of them as a step, and which."""
    wanted = set(models)
    found = {}
    for path in sorted(repository.glob("*/config.pbtxt")):
        if path.parent.name in wanted:
            continue
        try:
            steps = parse_config(path.read_text()).ensemble_scheduling.step
        except (OSError, ValueError, text_format.ParseError):
            continue  # somebody's own, which Triton would not load either
        for step in steps:
            if step.model_name in wanted:
                found[path.parent.name] = step.model_name
    return found


def remove_member(repository: Path, name: str) -> list[str]:
    """Take one member out; every other file stays as it is.

    Args:
        repository: The folder.
        name: The member.

    Returns:
        Names of the models that are gone.

    Raises:
        PublishError: there is no such member, an ensemble needs it, or somebody put files into
            its folders; nothing changed.
    """
    if not repository.is_dir():
        raise PublishError(f"{repository} is no folder")
    with staging_folder(repository) as staging:
        manifest = read_manifest(staging.target)
        member = known_member(repository, manifest, name)
        needed = users_of(staging.target, member.models)
        if needed:
            user, model = next(iter(needed.items()))
            owner = manifest.owners.get(user, "somebody's own")
            raise PublishError(
                f"ensemble '{user}' ({owner}) has '{model}' of {name} as a step; remove that first"
            )
        theirs = foreign_files(staging.target, manifest, member.models)
        if theirs:
            raise PublishError(
                f"{repository / theirs[0]} was not made by the builder; move it away, then remove "
                f"{name}"
            )
        staging.carry({*member.models, REQUIREMENTS_NAME})
        others = {key: value for key, value in manifest.members.items() if key != name}
        lines = [line for other in others.values() for line in other.requirements]
        write_requirements(lines, staging.path)
        gone = manifest.files_of(member.models)
        files = {path: file for path, file in manifest.files.items() if path not in gone}
        files[REQUIREMENTS_NAME] = FileRecord.of(staging.path / REQUIREMENTS_NAME)
        Manifest(members=others, files=files).write(staging.path)
        staging.publish()
    return member.models


def roll_back(repository: Path, name: str, to: int | None = None) -> tuple[int, int]:
    """Let another version of a member answer; no weights are touched.

    Args:
        repository: The folder.
        name: The member.
        to: The version; None: the greatest below the one that answers.

    Returns:
        The version that answered, and the one that answers now.

    Raises:
        PublishError: there is no such member or version; nothing changed.
    """
    if not repository.is_dir():
        raise PublishError(f"{repository} is no folder")
    with staging_folder(repository) as staging:
        manifest = read_manifest(staging.target)
        member = known_member(repository, manifest, name)
        target = _version(member, name, to)
        if target == member.live:
            return target, target
        staging.carry(set(member.models))
        files = dict(manifest.files)
        for model in member.models:
            copy_entry(staging.target / model, staging.path / model)
            text = serving_config(
                member.versions[target].configs[model],
                target,
                member.live,
                member.versions.keys(),
                member.models,
            )
            config = staging.path / model / "config.pbtxt"
            config.unlink()  # a hard link to what is served now
            config.write_text(text)
            files[f"{model}/config.pbtxt"] = FileRecord.of(config)
            if parse_config(text).ensemble_scheduling.step:
                # An ensemble has no files, and only the folder of the version that answers.
                old, new = f"{model}/{member.live}", f"{model}/{target}"
                (staging.path / old).rename(staging.path / new)
                files = {
                    path.replace(f"{old}/", f"{new}/", 1) if path.startswith(f"{old}/") else path: f
                    for path, f in files.items()
                }
        live = member.model_copy(update={"live": target})
        Manifest(members={**manifest.members, name: live}, files=files).write(staging.path)
        staging.publish()
    return member.live, target


def _version(member: MemberRecord, name: str, to: int | None) -> int:
    if to is None:
        older = [number for number in member.versions if number < member.live]
        if not older:
            raise PublishError(
                f"{name} has no version below {member.live}, which answers; it has "
                f"{', '.join(map(str, member.versions))}"
            )
        return max(older)
    if to not in member.versions:
        raise PublishError(
            f"{name} has no version {to}; it has {', '.join(map(str, member.versions))}"
        )
    return to
