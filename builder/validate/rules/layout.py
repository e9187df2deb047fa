"""Folders: names, versions and links."""

from collections.abc import Iterator

from builder.validate.findings import Problem
from builder.validate.model import RESERVED_FOLDERS, Model, is_too_large, version_number
from builder.validate.registry import rule

_SECTION = "directory and version layout"
_COMPLETING = frozenset(
    {"dali", "onnxruntime", "openvino", "python", "pytorch", "tensorflow", "tensorrt"}
)


@rule(
    "layout.name",
    section=_SECTION,
    reason="a model is found by its folder, so its name must be the folder's",
    source="repository",
)
def name_is_the_folder(model: Model) -> Iterator[Problem]:
    """`name`, where it is set, equals the folder's name."""
    if model.config.name and model.config.name != model.name:
        yield Problem(
            "name",
            f"the config is called {model.config.name!r}, the folder {model.name!r}",
            f"remove the name or write name: {model.name!r}",
        )


@rule(
    "layout.loaded-by-name",
    section=_SECTION,
    reason="since 26.03 a client's call to load takes no blank name, and in 26.03 none with .. in "
    "it; the server finds such a folder by itself",
    source="names",
    severity="advice",
)
def name_can_be_asked_for(model: Model) -> Iterator[Problem]:
    """The folder's name is one that Triton loads by name."""
    if not model.target.has("file-names"):
        return
    blank = not model.name.strip(" \t\n\v\f\r")
    if blank or (".." in model.name and not model.target.has("file-names-exact")):
        yield Problem(
            "",
            f"Triton {model.target.release} does not load the folder {model.name!r} by its name",
            "call it by letters, digits, - and _",
            file=model.file(model.path),
        )


@rule(
    "layout.no-version",
    section=_SECTION,
    reason="a model without a version folder has nothing to serve",
    source="lifecycle",
)
def has_a_version_folder(model: Model) -> Iterator[Problem]:
    """At least one folder with a number for a name."""
    if not model.all_versions and not model.versions:
        yield Problem(
            "",
            "the model has no version folder",
            f"put the model's files into {model.name}/1/ (an ensemble needs the empty folder)",
            file=model.file(model.path),
        )


@rule(
    "layout.version-overflow",
    section=_SECTION,
    reason="Triton reads the name as a 64-bit number and does not catch that it is none: the "
    "whole server dies",
    source="lifecycle",
)
def versions_fit(model: Model) -> Iterator[Problem]:
    """No folder's name starts with a number of more than 64 bits."""
    for name in model.folder.subdirs:
        if is_too_large(name):
            yield Problem(
                "",
                f"the folder {name!r} starts with a number that kills Triton",
                "rename it",
                file=model.file(model.path / name),
            )


@rule(
    "layout.version-policy",
    section=_SECTION,
    reason="a model none of whose versions the policy picks is not loaded",
    source="lifecycle",
)
def policy_picks_a_version(model: Model) -> Iterator[Problem]:
    """The version policy picks at least one version that exists."""
    if not model.all_versions or model.versions:
        return
    there = ", ".join(str(version) for version in model.all_versions)
    policy = model.config.version_policy
    if policy.HasField("specific"):
        asked = ", ".join(str(version) for version in policy.specific.versions) or "none"
        yield Problem(
            "version_policy.specific",
            f"the policy asks for the versions {asked}; the folder has {there}",
            "ask for a version that exists, or remove version_policy for the latest",
        )
    else:
        yield Problem(
            "version_policy",
            "the policy keeps the latest 0 versions, so none is loaded",
            "set num_versions to 1 or more",
        )


@rule(
    "layout.link-outside",
    section=_SECTION,
    reason="a repository is served as it is copied; what a link points to stays behind",
    source="docs_repository",
    needs_config=False,
)
def links_stay_inside(model: Model) -> Iterator[Problem]:
    """No link in the model's folder or its version folders leaves the repository."""
    folders = [model.folder]
    folders += [model.repository.folder(model.path / name) for name in model.all_versions.values()]
    for folder in folders:
        for entry in folder.entries.values():
            if entry.outside:
                yield Problem(
                    "",
                    f"{model.file(entry.path)} is a link out of the repository and was not read",
                    "copy what it points to into the repository",
                    file=model.file(entry.path),
                )


@rule(
    "layout.link-circle",
    section=_SECTION,
    reason="Triton follows links when it looks for changes; two such links, and it is busy for "
    "ever",
    source="repository",
    severity="advice",
    needs_config=False,
)
def links_do_not_lead_back(model: Model) -> Iterator[Problem]:
    """No link points to a folder that it lies in."""
    folders = [model.folder]
    folders += [model.repository.folder(model.path / name) for name in model.all_versions.values()]
    for folder in folders:
        for entry in folder.entries.values():
            if entry.circular:
                yield Problem(
                    "",
                    f"{model.file(entry.path)} is a link to a folder that it lies in",
                    "remove it",
                    file=model.file(entry.path),
                )


@rule(
    "layout.unreadable",
    section=_SECTION,
    reason="Triton gives up on a model when it cannot look at an entry of its folder",
    source="repository",
    needs_config=False,
)
def entries_are_readable(model: Model) -> Iterator[Problem]:
    """Every entry of the model's folder can be looked at."""
    for folder in (model.folder, model.first_version_folder):
        if folder is not None and folder.error:
            yield Problem(
                "",
                f"the folder cannot be listed: {folder.error}",
                "make it readable",
                file=model.file(folder.path),
            )
    for entry in model.folder.entries.values():
        if entry.broken:
            yield Problem(
                "",
                f"{model.file(entry.path)} is a link to nothing",
                "remove it or put its target there",
                file=model.file(entry.path),
            )


@rule(
    "layout.crowded",
    section=_SECTION,
    reason="a folder with so many entries is no model; the rest was not looked at",
    source="docs_repository",
    needs_config=False,
)
def folders_are_small(model: Model) -> Iterator[Problem]:
    """No folder of the model has more entries than are looked at."""
    folders = [model.folder]
    folders += [model.repository.folder(model.path / name) for name in model.all_versions.values()]
    for folder in folders:
        if folder.truncated:
            yield Problem(
                "",
                "the folder has too many entries to check",
                "keep only the model's files there",
                file=model.file(folder.path),
            )


@rule(
    "layout.ignored-folder",
    section=_SECTION,
    reason="Triton skips a folder whose name is no number, or starts with 0",
    source="lifecycle",
    severity="advice",
)
def folders_look_like_versions(model: Model) -> Iterator[Problem]:
    """A folder that looks like a version but is skipped."""
    for name in model.folder.subdirs:
        looks_like = name.lstrip("vV0").isdecimal() and name not in RESERVED_FOLDERS
        if looks_like and version_number(name) is None and not is_too_large(name):
            yield Problem(
                "",
                f"Triton does not take the folder {name!r} for a version",
                f"call it {name.lstrip('vV0')!r}",
                file=model.file(model.path / name),
            )


@rule(
    "layout.version-folder-name",
    section=_SECTION,
    reason="Triton reads the number at the start of the name, then looks into the folder that is "
    "called exactly by that number",
    source="lifecycle",
    severity="advice",
)
def version_folders_are_numbers(model: Model) -> Iterator[Problem]:
    """A version folder is called by its number and nothing else."""
    for version, name in model.all_versions.items():
        if name != str(version):
            yield Problem(
                "",
                f"Triton takes the folder {name!r} for version {version} and looks into "
                f"{version}/, which is another folder",
                f"call it {version}, or something that does not start with a number",
                file=model.file(model.path / name),
            )


@rule(
    "layout.missing-version",
    section=_SECTION,
    reason="Triton logs a version of the policy that does not exist and serves the others",
    source="lifecycle",
    severity="advice",
)
def specific_versions_exist(model: Model) -> Iterator[Problem]:
    """Every version that the policy asks for exists."""
    policy = model.config.version_policy
    if not policy.HasField("specific") or not model.versions:
        return
    for index, version in enumerate(policy.specific.versions):
        if version not in model.all_versions:
            yield Problem(
                f"version_policy.specific.versions[{index}]",
                f"the policy asks for version {version}, which has no folder",
                f"add {model.name}/{version}/ or remove the version from the policy",
            )


@rule(
    "layout.no-config",
    section=_SECTION,
    reason="without config.pbtxt the backend must make the config, and few do",
    source="model",
)
def config_can_be_made(model: Model) -> Iterator[Problem]:
    """There is a config, or a backend that completes one from nothing."""
    completing = _COMPLETING | model.target.python_based
    if not model.has_config and model.backend and model.backend not in completing:
        yield Problem(
            "",
            f"there is no config.pbtxt, and the backend {model.backend!r} does not make one",
            f"write {model.name}/config.pbtxt",
        )
