"""Settings of the stage `tokenize`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TokenizeSettings:
    """How texts become padded token ids.

    Attributes:
        long_text: What happens to a text over the last bucket: `truncate` or `refuse`.
        pad_token_id: What short texts are padded with.
        sequence_buckets: Lengths in tokens, ascending; the last is the longest text.
    """

    long_text: str
    pad_token_id: int
    sequence_buckets: tuple[int, ...]

    @property
    def truncate(self) -> bool:
        """Whether long texts are cut."""
        return self.long_text == "truncate"


@dataclass(frozen=True)
class WindowSettings(TokenizeSettings):
    """How questions and contexts become windows of token ids.

    Attributes:
        window_stride: Tokens that two neighbouring windows share.
        max_windows: Most windows of one context.
        cls_token_id: A token that stands for no answer; None: there is none.
    """

    window_stride: int
    max_windows: int
    cls_token_id: int | None
