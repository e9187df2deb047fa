"""Settings of the stage `match`."""

from dataclasses import dataclass

from ..tokenize.tokenize_settings import TokenizeSettings


@dataclass(frozen=True)
class MatchSettings(TokenizeSettings):
    """How labels become texts and texts become vectors.

    Attributes:
        cached_labels: Texts whose vectors are remembered.
        template: The text of a label where a request brings no template, with one `{}`.
        text_batch: Largest batch of the text model.
        text_model: Its name.
    """

    cached_labels: int
    template: str
    text_batch: int
    text_model: str
