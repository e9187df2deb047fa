"""What every spec type is made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Strict(BaseModel):
    """Base of every spec type: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


PositiveInt = Annotated[int, Field(ge=1)]
UInt32 = Annotated[int, Field(ge=0, lt=2**32)]
Microseconds = Annotated[int, Field(ge=0, lt=2**63)]
