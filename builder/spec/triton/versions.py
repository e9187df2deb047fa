"""`version_policy`: which versions of a model are served."""

from pydantic import Field, model_validator

from builder.spec.base import PositiveInt, Strict


class Latest(Strict):
    """The versions with the highest numbers."""

    num_versions: PositiveInt = 1


class All(Strict):
    """Every version."""


class Specific(Strict):
    """Versions by number."""

    versions: list[PositiveInt] = Field(min_length=1)


class VersionPolicy(Strict):
    """One of the three."""

    latest: Latest | None = None
    all: All | None = None
    specific: Specific | None = None

    @model_validator(mode="after")
    def _one_policy(self) -> "VersionPolicy":
        given = [key for key in ("latest", "all", "specific") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(
                f"give one of latest, all, specific, not {' and '.join(given) or 'none'}"
            )
        return self
