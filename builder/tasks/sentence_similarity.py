"""Sentence encoders: one vector a text, pooled as the checkpoint's own files say."""

from collections.abc import Mapping
from typing import Any

from transformers import AutoModel

from builder.errors import CheckpointError
from builder.render.model_config import Tensor
from builder.tasks.text import TextTask

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


class SentenceSimilarity(TextTask):
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
            other = next((k for k in kinds if k not in ("Transformer", "Pooling", "Normalize")), "")
            raise CheckpointError(
                f"{source}: modules.json chains {', '.join(kinds)}; "
                + (f"the module {other} is not supported, " if other else "")
                + "only Transformer, Pooling and Normalize in this order are: serve the token "
                "vectors with task: feature-extraction, and do the rest in the client"
            )
        pooling = files.json(f"{modules[1]['path']}/config.json") or {}
        asked = _pooling(pooling)
        if len(asked) != 1 or asked[0] not in _POOLINGS.values():
            raise CheckpointError(
                f"{source}: pooling by {', '.join(asked) or 'nothing'} is not supported, only one "
                f"of {', '.join(_POOLINGS.values())} is: serve the token vectors with task: "
                "feature-extraction, and pool them in the client"
            )
        settings = files.json("sentence_bert_config.json") or {}
        self._refuse_changed_texts(settings)
        return asked[0], kinds[-1] == "Normalize", settings.get("max_seq_length")

    def _refuse_changed_texts(self, settings: Mapping[str, Any]) -> None:
        """Refuse what sentence-transformers does to a text before the tokenizer sees it."""
        source = self.files.source
        if settings.get("do_lower_case"):
            raise CheckpointError(
                f"{source}: do_lower_case in sentence_bert_config.json is not supported; set it "
                "to false there, and send texts in lower case"
            )
        prompts = self.files.json("config_sentence_transformers.json") or {}
        name = prompts.get("default_prompt_name")
        if name:
            text = (prompts.get("prompts") or {}).get(name, "")
            raise CheckpointError(
                f"{source}: its default prompt '{name}' in config_sentence_transformers.json is "
                "not supported; set default_prompt_name to null there, and send texts that begin "
                f"with {text!r}"
            )

    def raw_dims(self) -> tuple[int, ...]:
        """The width of the encoder."""
        return (int(self.files.config.hidden_size),)

    def answer(self) -> tuple[Tensor, ...]:
        """The vector."""
        return (Tensor("EMBEDDING", "FP32", self.raw_dims()),)

    def head_parameters(self) -> Mapping[str, Any]:
        """As the checkpoint's own files say."""
        return {"pooling": self.pooling, "normalize": self.normalize}
