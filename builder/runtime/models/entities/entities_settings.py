"""Settings of the stage `entities`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EntitiesSettings:
    """How tokens become entities.

    Attributes:
        labels: Label of each logit.
        aggregation: `none`, `simple`, `first`, `average` or `max`.
        ignored_labels: Labels that are no entity.
        unk_token_id: The token of unknown words; None: there is none.
    """

    labels: tuple[str, ...]
    aggregation: str
    ignored_labels: tuple[str, ...]
    unk_token_id: int | None
