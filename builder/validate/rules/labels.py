"""Label files of outputs."""

from collections.abc import Iterator

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
            if output.label_filename.endswith("/"):
                raise UnreadableError("it is no regular file")  # noqa: TRY301
            model.repository.check_regular(model.path / output.label_filename)
        except UnreadableError as error:
            yield Problem(
                f"output[{index}].label_filename",
                f"the label file {output.label_filename!r} cannot be read: {error}",
                f"put the file into {model.name}/, or remove label_filename",
            )


@rule(
    "labels.outside",
    section=_SECTION,
    reason="a file outside the model's folder is not published with it; 24.10 reads it, later "
    "releases refuse it",
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
            if depth < 0 or name.startswith("/"):
                yield Problem(
                    f"output[{index}].label_filename",
                    f"the label file {name!r} is outside the model's folder",
                    f"copy it into {model.name}/ and give its name",
                )
                break
