"""What every task reads of a Hugging Face checkpoint; weights from safetensors only."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoTokenizer
from transformers.utils.hub import cached_file

from builder.checkpoint.bounds import refuse_absurd_sizes
from builder.checkpoint.hub import (
    checkpoint_errors,
    hub_options,
    pinned,
    resolve_source,
    snapshot,
    source_hashes,
)
from builder.checkpoint.pickles import refuse_pickles
from builder.errors import CheckpointError
from builder.publish.manifest import sha256
from builder.spec.task import TaskCheckpoint

_SHAPING = {".json", ".safetensors", ".txt", ".model", ".jinja", ".py"}
_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "tokenizer.model")
_WITHOUT_VOCABULARY = {"ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer"}
# Families of transformers 5 whose positions start behind the padding id, so that their table has
# fewer places than rows: `create_position_ids_from_input_ids` in their modeling files. (FSMT's too,
# but its table is that much longer.)
_SHIFTED_POSITIONS = {
    "altclip_text_model",
    "bridgetower_text_model",
    "camembert",
    "clap_text_model",
    "data2vec-text",
    "esm",
    "ibert",
    "layoutlmv3",
    "lilt",
    "longformer",
    "luke",
    "markuplm",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
}
_SHIFTED_PADDING = 1
"""The padding id of those families where a config says none."""


@dataclass(frozen=True)
class CheckpointFiles:
    """A checkpoint and its config; no weights are read.

    Attributes:
        source: A local folder or a hub id.
        config: Its transformers config.
        spec: As the spec names it; one of the hub held at a commit.
        base: Folder that local paths are relative to.
    """

    source: str
    config: Any
    spec: TaskCheckpoint
    base: Path
    _known: dict[Path, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def options(self) -> dict[str, Any]:
        """Options that every transformers loader gets."""
        return hub_options(self.spec)

    @property
    def architectures(self) -> list[str]:
        """Class names that the config gives."""
        return list(self.config.architectures or [])

    def json(self, name: str) -> Any:
        """A JSON file of the checkpoint; None where it has none."""
        path = cached_file(
            self.source,
            name,
            revision=self.spec.revision,
            _raise_exceptions_for_missing_entries=False,
        )
        return json.loads(Path(path).read_text()) if path else None

    def folder(self) -> Path:
        """Where it lies on disk; one of the hub has been fetched by then."""
        return snapshot(self.source, self.spec.revision)

    def hashes(self) -> dict[str, str]:
        """File name -> sha256 of a local checkpoint; the commit of one on the hub."""
        return source_hashes(self.source, self.spec.revision, self._sha256)

    def shaping_hashes(self) -> dict[str, str]:
        """What shapes an artifact: file name -> sha256, or the commit of one on the hub."""
        folder = Path(self.source)
        if not folder.is_dir():
            # Its files need not be there yet.
            return self.hashes()
        return {
            str(path.relative_to(folder)): self._sha256(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.suffix in _SHAPING
        }

    def _sha256(self, path: Path) -> str:
        if path not in self._known:
            self._known[path] = sha256(path)
        return self._known[path]

    def tokenizer(self) -> Any:
        """The fast tokenizer, with a padding token.

        Raises:
            CheckpointError: there is none.
        """
        folder = Path(self.source)
        kind = str((self.json("tokenizer_config.json") or {}).get("tokenizer_class", ""))
        if kind.removesuffix("Fast") in _WITHOUT_VOCABULARY:
            raise CheckpointError(
                f"{self.source}: its tokenizer {kind} reads bytes or characters and has no "
                "tokenizer.json, which is what is served: not supported; choose a checkpoint of "
                "the family with a vocabulary"
            )
        if folder.is_dir() and not any((folder / name).is_file() for name in _TOKENIZER_FILES):
            raise CheckpointError(
                f"{self.source} has no tokenizer (tokenizer.json); save the model's tokenizer "
                "beside it"
            )
        with checkpoint_errors(self.source):
            tokenizer = AutoTokenizer.from_pretrained(self.source, **self.options)
        if not tokenizer.is_fast:
            raise CheckpointError(
                f"{self.source}: its tokenizer {type(tokenizer).__name__} has no fast form "
                "(tokenizer.json), which is what is served: not supported"
            )
        return tokenizer

    def max_tokens(self, tokenizer: Any) -> int | None:
        """The longest text that positions and tokenizer allow; None: no bound is known."""
        positions = getattr(self.config, "max_position_embeddings", None)
        if positions and self.config.model_type in _SHIFTED_POSITIONS:
            padding = self.config.pad_token_id
            positions -= int(_SHIFTED_PADDING if padding is None else padding) + 1
        bounds = [int(n) for n in (positions, tokenizer.model_max_length) if n and n < 1_000_000]
        return min(bounds) if bounds else None

    def load(self, auto_class: Any, task: str, optional: tuple[str, ...] = ()) -> Any:
        """The model in fp32, eval mode, SDPA attention where the family has it.

        Args:
            auto_class: `AutoModelFor...`.
            task: For the error.
            optional: Prefixes of weights that the task does without.

        Raises:
            CheckpointError: pickled, damaged, or without the weights of the task's head.
        """
        refuse_pickles(self.source)
        self._refuse_damage()
        with checkpoint_errors(self.source):
            model, info = auto_class.from_pretrained(
                self.source,
                dtype=torch.float32,
                use_safetensors=True,
                output_loading_info=True,
                **self.options,
            )
        # A weight that is missing would be random, and the answers with it.
        missing = sorted(key for key in info["missing_keys"] if not key.startswith(optional))
        if missing:
            raise CheckpointError(
                f"{self.source} has no weights for {missing[0]} ({len(missing)} missing): it is "
                f"no checkpoint for {task}"
            )
        return model.eval().requires_grad_(False)

    def weight(self, name: str) -> torch.Tensor | None:
        """One weight in fp32 of a checkpoint in one file; None: the whole must be loaded.

        Raises:
            CheckpointError: damaged.
        """
        path = self.folder() / "model.safetensors"
        if not path.is_file():
            return None
        self._refuse_damage()
        with safe_open(path, framework="pt") as file:
            return file.get_tensor(name).float() if name in file.keys() else None  # noqa: SIM118

    def _refuse_damage(self) -> None:
        """The loader's own errors name no file."""
        for path in sorted(self.folder().glob("*.safetensors")):
            try:
                with safe_open(path, framework="pt"):
                    pass
            except SafetensorError as error:
                raise CheckpointError(
                    f"{path} is damaged ({error}); fetch or save the checkpoint again"
                ) from error


def open_checkpoint(checkpoint: TaskCheckpoint, base: Path) -> CheckpointFiles:
    """Read the config of a checkpoint.

    Args:
        checkpoint: Where it is.
        base: Folder that local paths are relative to.

    Raises:
        CheckpointError: missing or damaged.
    """
    checkpoint = pinned(checkpoint, base)
    source = resolve_source(checkpoint, base)
    with checkpoint_errors(source):
        refuse_absurd_sizes(source, checkpoint.revision)
        config = AutoConfig.from_pretrained(source, **hub_options(checkpoint))
    return CheckpointFiles(source, config, checkpoint, base)
