"""Settings of the stage `fill`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FillSettings:
    """The mask, and how tokens become text.

    Attributes:
        top_k: Tokens of an answer, the best first.
        mask_token: How a text writes the mask.
        mask_token_id: Its id.
        pad_token_id: What short texts are padded with.
        clean_up_spaces: Whether spaces before punctuation go.
    """

    top_k: int
    mask_token: str
    mask_token_id: int
    pad_token_id: int
    clean_up_spaces: bool
