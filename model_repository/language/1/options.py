"""What a client may ask of the generation, checked."""

from dataclasses import dataclass

MAX_STOP_STRINGS = 16
MAX_STOP_BYTES = 1024


class OptionError(ValueError):
    """An option is out of range; the message is for the client."""


@dataclass(frozen=True)
class GenerationOptions:
    """How one answer is generated.

    Attributes:
        max_tokens: Most tokens to generate, at least 1.
        visual_tokens: Visual tokens to keep; 0 where there is no picture.
        temperature: 0 for greedy decoding.
        top_p: Nucleus, 0 < p <= 1.
        top_k: 0 for all tokens.
        seed: Seed of this request's own random stream.
        stop: Strings at which the answer ends; none of them appears in the text.
        repetition_penalty: Divides (or multiplies, below zero) the logits of tokens that the prompt
            or the answer holds already; 1 for none.
        logprobs: Whether the log-probability of each token is wanted.
        timeout_ms: Milliseconds after which the answer is cut off; 0 for none.
    """

    max_tokens: int
    visual_tokens: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    stop: tuple[str, ...] = ()
    repetition_penalty: float = 1.0
    logprobs: bool = False
    timeout_ms: int = 0

    def check(self, max_tokens: int, max_visual_tokens: int = 0) -> None:
        """Refuse what can't be done.

        Args:
            max_tokens: Most that the server generates for one request.
            max_visual_tokens: The built K; 0 for a model of text alone.

        Raises:
            OptionError: with one sentence that names the tensor and its range.
        """
        if not 1 <= self.max_tokens <= max_tokens:
            raise OptionError(f"MAX_TOKENS is {self.max_tokens}; it must be 1 to {max_tokens}")
        if max_visual_tokens and not 1 <= self.visual_tokens <= max_visual_tokens:
            raise OptionError(
                f"VISUAL_TOKENS is {self.visual_tokens}; it must be 1 to {max_visual_tokens}"
            )
        # Written so that NaN is refused too.
        if not 0.0 <= self.temperature <= 100.0:
            raise OptionError(f"TEMPERATURE is {self.temperature}; it must be 0 to 100")
        if not 0.0 < self.top_p <= 1.0:
            raise OptionError(f"TOP_P is {self.top_p}; it must be above 0 and at most 1")
        if self.top_k < 0:
            raise OptionError(f"TOP_K is {self.top_k}; it must be 0 (off) or more")
        if not 0.01 <= self.repetition_penalty <= 100.0:
            raise OptionError(
                f"REPETITION_PENALTY is {self.repetition_penalty}; it must be 0.01 to 100"
            )
        if self.timeout_ms < 0:
            raise OptionError(f"TIMEOUT_MS is {self.timeout_ms}; it must be 0 (none) or more")
        self._check_stop()

    def _check_stop(self) -> None:
        if len(self.stop) > MAX_STOP_STRINGS:
            raise OptionError(f"STOP has {len(self.stop)} strings; at most {MAX_STOP_STRINGS}")
        for text in self.stop:
            if not 0 < len(text.encode()) <= MAX_STOP_BYTES:
                raise OptionError(f"a STOP string must have 1 to {MAX_STOP_BYTES} bytes")


def decode_stop(values: list[bytes]) -> tuple[str, ...]:
    """Stop strings from the bytes of a tensor.

    Raises:
        OptionError: one is not UTF-8.
    """
    try:
        return tuple(value.decode("utf-8") for value in values)
    except UnicodeDecodeError as error:
        raise OptionError("a STOP string is not valid UTF-8") from error
