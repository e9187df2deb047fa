"""Settings of the stages that stream a decoder's text: `generate` and `language`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ServedSettings:
    """Batching, cache and session of a decoder, and lengths in tokens.

    Attributes:
        default_max_tokens: Longest answer of a request that does not say.
        draft_tokens: Tokens that are guessed from the prompt while a request runs alone; 0: off.
        end_token_ids: Ids that end an answer.
        intra_op_thread_count: Threads of ONNX Runtime within an operator; 0: it decides.
        kv_cache_tokens: Tokens that the KV cache holds in all; None: every slot full.
        max_sequence_length: Prompt and answer together.
        max_tokens: Longest answer.
        max_waiting: Requests that may wait for a slot.
        prefill_chunk: Tokens of a new prompt between two tokens of the running answers; 0: all.
        slots: Requests that are answered at the same time.
        spinning: Whether idle threads wait busily.
    """

    default_max_tokens: int
    draft_tokens: int
    end_token_ids: tuple[int, ...]
    intra_op_thread_count: int
    kv_cache_tokens: int | None
    max_sequence_length: int
    max_tokens: int
    max_waiting: int
    prefill_chunk: int
    slots: int
    spinning: bool


@dataclass(frozen=True)
class LanguageSettings(ServedSettings):
    """What the visual tokens of a prompt are.

    Attributes:
        grids: Grids of token cells that the pipeline has (`grids.parse_grids`).
        image_token_id: The token that stands for a picture.
        kept_tokens: Cells that the relevance stage keeps.
        prune: `before_vision`: image_embeds has the kept cells alone; else all of them.
    """

    grids: str
    image_token_id: int
    kept_tokens: int
    prune: str
