"""Settings of the stage `seq2seq`."""

from dataclasses import dataclass

from .rules import Rules


@dataclass(frozen=True)
class Seq2SeqSettings:
    """Lengths of answers, and the checkpoint's rules.

    Attributes:
        default_max_tokens: Longest answer of a request that does not say.
        intra_op_thread_count: Threads of ONNX Runtime within an operator; 0: it decides.
        max_tokens: Longest answer.
        pad_token_id: What short answers of a batch are padded with.
        rules: What the checkpoint rules out or forces.
    """

    default_max_tokens: int
    intra_op_thread_count: int
    max_tokens: int
    pad_token_id: int
    rules: Rules
