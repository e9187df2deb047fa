"""Label files of outputs."""

import os
import posixpath
from collections.abc import Iterator
from pathlib import Path

from builder.validate.findings import Problem
from builder.validate.model import Model
from builder.validate.registry import rule
from builder.validate.repository import UnreadableError

_SECTION = "labels"


@rule(
    "labels.file",
    section=_SECTION,
    reason="Triton reads the labels at load, from the model's folder; one that is a folder kills "
    "the server",
    source="model",
)
def label_files_exist(model: Model) -> Iterator[Problem]:
    """`label_filename` is a file in the model's folder."""
    for index, output in enumerate(model.config.output):
        if not output.label_filename:
            continue
        try:
            if posixpath.basename(output.label_filename) in {"", ".", ".."}:
                raise UnreadableError("it is no regular file")  # noqa: TRY301
            model.repository.check_regular(_place(model, output.label_filename))
        except UnreadableError as error:
            yield Problem(
                f"output[{index}].label_filename",
                f"the label file {output.label_filename!r} cannot be read: {error}",
                f"put the file into {model.name}/, or remove label_filename",
            )


def _place(model: Model, name: str) -> Path:
    """Where Triton looks: it joins the two as text, a leading slash or not."""
    return model.path / name.lstrip("/")


@rule(
    "labels.escapes",
    section=_SECTION,
    reason="since 26.02 a label file that is not in the model's folder, links followed, refuses "
    "the load; until 26.05 a folder whose name begins like the model's counts as it",
    source="labels",
)
def label_files_do_not_escape(model: Model) -> Iterator[Problem]:
    """From 26.02 on `label_filename`, resolved, lies in the model's folder."""
    for index, output in enumerate(model.config.output):
        if output.label_filename and _is_refused(model, output.label_filename):
            yield Problem(
                f"output[{index}].label_filename",
                f"the label file {output.label_filename!r} is outside the model's folder, which "
                f"Triton {model.target.release} refuses",
                f"copy it into {model.name}/ and give its name",
            )


def _is_refused(model: Model, name: str) -> bool:
    if not model.target.has("label-path"):
        return False
    folder = os.path.realpath(model.path)
    try:
        file = os.path.realpath(_place(model, name))
    except (OSError, ValueError):  # no path at all: labels.file says so
        return False
    if model.target.has("label-path-exact"):
        return file != folder and not file.startswith(folder + "/")
    return not file.startswith(folder)


@rule(
    "labels.outside",
    section=_SECTION,
    reason="a file outside the model's folder is not published with it; releases before 26.02 read "
    "it, later ones refuse it",
    source="model",
    severity="advice",
)
def label_files_are_inside(model: Model) -> Iterator[Problem]:
    """`label_filename` does not leave the model's folder."""
    for index, output in enumerate(model.config.output):
        name = output.label_filename
        depth = 0
        for part in name.split("/"):
            depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
            if depth < 0 and not _is_refused(model, name):
                yield Problem(
                    f"output[{index}].label_filename",
                    f"the label file {name!r} is outside the model's folder",
                    f"copy it into {model.name}/ and give its name",
                )
                break
