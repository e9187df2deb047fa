"""Sentence encoders: one vector a text, pooled as the checkpoint's own files say."""

from collections.abc import Mapping
from typing import Any

from transformers import AutoModel

from builder.errors import CheckpointError
from builder.render.model_config import Tensor
from builder.tasks.text import TextKind

_POOLINGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
}
"""Keys of older files -> what newer ones name as `pooling_mode`."""


def _pooling(config: dict[str, Any]) -> list[str]:
    """The modes that a pooling config of any age asks for."""
    mode = config.get("pooling_mode")
    if mode is not None:
        return [mode] if isinstance(mode, str) else list(mode)
    asked = [key for key, value in config.items() if key.startswith("pooling_mode") and value]
    return [_POOLINGS.get(key, key) for key in asked]


class SentenceSimilarity(TextKind):
    """Files of sentence-transformers: `modules.json`, `1_Pooling/config.json` and the like.

    https://sbert.net/docs/package_reference/sentence_transformer/models.html
    """

    auto_class = AutoModel
    hub_task = "feature-extraction"
    head = "sentence"
    raw_name = "sentence_embedding"
    optional_weights = ("pooler.",)

    def _longest(self) -> int:
        self.pooling, self.normalize, limit = self._sentence_parts()
        longest = super()._longest()
        return min(longest, limit or longest)

    def _sentence_parts(self) -> tuple[str, bool, int | None]:
        """Pooling, normalization and longest text."""
        files, source = self.files, self.files.source
        modules = files.json("modules.json")
        if not modules:
            raise CheckpointError(
                f"{source} has no modules.json: it is not a sentence encoder, nothing says how its "
                "token vectors become one; task feature-extraction serves the vectors themselves"
            )
        kinds = [module["type"].rsplit(".", 1)[-1] for module in modules]
        if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
            raise CheckpointError(
                f"{source}: modules.json chains {', '.join(kinds)}; only Transformer, Pooling and "
                "Normalize, in this order, can be built"
            )
        pooling = files.json(f"{modules[1]['path']}/config.json") or {}
        asked = _pooling(pooling)
        if len(asked) != 1 or asked[0] not in _POOLINGS.values():
            raise CheckpointError(
                f"{source}: pooling by {', '.join(asked) or 'nothing'}; one of "
                f"{', '.join(_POOLINGS.values())} can be built"
            )
        settings = files.json("sentence_bert_config.json") or {}
        prompt = (files.json("config_sentence_transformers.json") or {}).get("default_prompt_name")
        if settings.get("do_lower_case") or prompt:
            unknown = f"default prompt '{prompt}'" if prompt else "do_lower_case"
            raise CheckpointError(
                f"{source}: {unknown} in its sentence-transformers files is not supported"
            )
        return asked[0], kinds[-1] == "Normalize", settings.get("max_seq_length")

    def raw_dims(self) -> tuple[int, ...]:
        """The width of the encoder."""
        return (int(self.files.config.hidden_size),)

    def answer(self) -> tuple[Tensor, ...]:
        """The vector."""
        return (Tensor("EMBEDDING", "FP32", self.raw_dims()),)

    def head_parameters(self) -> Mapping[str, Any]:
        """As the checkpoint's own files say."""
        return {"pooling": self.pooling, "normalize": self.normalize}
