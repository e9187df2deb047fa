"""Token ids to text, as transformers' fast tokenizers decode them."""

from tokenizers import Tokenizer

# PreTrainedTokenizerBase.clean_up_tokenization of transformers 5.23.
_CLEANED = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)


def decoded(tokenizer: Tokenizer, ids: list[int], *, skip_special: bool, clean_up: bool) -> str:
    """The text of some tokens.

    Args:
        tokenizer: The tokenizer.
        ids: Token ids.
        skip_special: Leave special tokens out.
        clean_up: Remove the spaces that a WordPiece tokenizer puts before punctuation.
    """
    text: str = tokenizer.decode(ids, skip_special_tokens=skip_special)
    if clean_up:
        for spaced, plain in _CLEANED:
            text = text.replace(spaced, plain)
    return text
