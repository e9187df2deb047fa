"""The exception tree.

    BuilderError                 a user's mistake or a failed check: one clear sentence, exit 2
    +-- SpecError                the spec file does not parse or does not make sense
    +-- CheckpointError          a checkpoint is missing, unreadable or of an unknown kind
    +-- ExportError              a model could not be exported to the asked format
    +-- ParityError              an artifact differs from its source model by more than allowed
    +-- RenderError              a template or model config could not be rendered
    +-- PublishError             the repository could not be written or moved into place
    +-- ServerError              tritonserver could not be found, started or reached
    +-- RequestError             a served model refused a request
    +-- ToolError                an external tool (perf_analyzer, trtexec) failed or is missing

The command line prints the message on stderr and exits with 2. Anything else that escapes is
a defect of the builder.
"""

import errno


class BuilderError(Exception):
    """A user's mistake or a failed check; the message says what, where and what to do."""


class SpecError(BuilderError):
    """The spec file does not parse or does not make sense."""


class CheckpointError(BuilderError):
    """A checkpoint is missing, unreadable or of an unknown kind."""


class ExportError(BuilderError):
    """A model could not be exported to the asked format."""


class ParityError(BuilderError):
    """An artifact differs from its source model by more than the spec allows."""


class RenderError(BuilderError):
    """A template or a model config could not be rendered."""


class PublishError(BuilderError):
    """The repository could not be written or moved into place."""


class ServerError(BuilderError):
    """tritonserver could not be found, started or reached."""


class RequestError(BuilderError):
    """A served model refused a request."""


class ToolError(BuilderError):
    """An external tool failed or is missing."""


def disk_full(error: BaseException) -> OSError | None:
    """The error, where it says that a disk or a quota is full."""
    full = {errno.ENOSPC, errno.EDQUOT}
    return error if isinstance(error, OSError) and error.errno in full else None
