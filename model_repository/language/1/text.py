"""Tokens to streamed text: whole characters, and never any of a stop string."""

from tokenizers import Tokenizer

REPLACEMENT = "\ufffd"


class TextStream:
    """The text of one answer as it grows."""

    def __init__(self, tokenizer: Tokenizer, stop: tuple[str, ...] = ()) -> None:
        self._tokenizer = tokenizer
        self._stop = stop
        self._ids: list[int] = []
        # Ids before `_settled` are behind a character border; text up to `_read` was taken.
        self._settled = 0
        self._read = 0
        self._held = ""
        self.stopped = False

    def _decode(self, start: int, end: int) -> str:
        return str(self._tokenizer.decode(self._ids[start:end], skip_special_tokens=True))

    def _advance(self) -> None:
        """All ids are read. Tokens without text (special ones) can't stand in front alone: a
        decoder that strips the first space (SentencePiece) would take it from the next word."""
        if self._decode(self._read, len(self._ids)):
            self._settled = self._read
        self._read = len(self._ids)

    def push(self, token: int) -> str:
        """Take a token; return the text that can be shown now, often a token's, maybe none.

        Sets `stopped` when a stop string is complete; the text ends before it.
        """
        self._ids.append(token)
        text = self._decode(self._settled, len(self._ids))
        if text.endswith(REPLACEMENT):  # perhaps the first bytes of a character
            return ""
        known = self._decode(self._settled, self._read)
        self._advance()
        return self._release(text[len(known) :])

    def finish(self) -> str:
        """The rest: bytes that never became a character, text held back for a stop string."""
        if self.stopped:
            return ""
        text = self._decode(self._settled, len(self._ids))
        known = self._decode(self._settled, self._read)
        self._advance()
        shown = self._release(text[len(known) :])
        if self.stopped:
            return shown
        shown, self._held = shown + self._held, ""
        return shown

    def _release(self, text: str) -> str:
        self._held += text
        found = [(self._held.find(stop), stop) for stop in self._stop if stop in self._held]
        if found:
            # The one that is complete first counts, however the text was cut into tokens.
            _, start = min((at + len(stop), at) for at, stop in found)
            self.stopped = True
            shown, self._held = self._held[:start], ""
            return shown
        keep = self._partial_stop()
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown

    def _partial_stop(self) -> int:
        """Length of the longest end of the held text that begins a stop string."""
        longest = max((len(stop) for stop in self._stop), default=1) - 1
        for size in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-size:]) for stop in self._stop):
                return size
        return 0
