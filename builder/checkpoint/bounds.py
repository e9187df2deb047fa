"""What a `config.json` may say at most: no model has a million layers, and none has zero heads.

Reading or building a model of absurd sizes takes all time and memory before a library notices, and
impossible values end in its raw words.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from transformers.utils.hub import cached_file

from builder.errors import CheckpointError

_MOST: Final[tuple[tuple[tuple[str, ...], int], ...]] = (
    (("layers", "n_layer", "depth", "depths", "blocks"), 2_000),
    (("heads", "n_head"), 4_096),
    (("experts",), 65_536),
    (("vocab_size",), 10_000_000),
    (("num_labels",), 1_000_000),
    (("positions", "position_embeddings", "n_ctx", "max_length"), 100_000_000),
    (
        (
            *("hidden_size", "hidden_sizes", "intermediate_size", "embedding_size", "embed_dim"),
            *("d_model", "d_ff", "d_kv", "n_embd", "n_inner", "ffn_dim", "head_dim"),
            *("patch_size", "image_size", "num_channels", "projection_dim", "type_vocab_size"),
        ),
        1_000_000,
    ),
)
"""Ends of a key's name -> the most that its value may be."""

_MAY_BE_ZERO: Final = (
    *("layers", "depth", "depths", "type_vocab_size", "num_labels", "experts", "max_length"),
)
"""Ends of names of what a model may have none of."""


def refuse_absurd_sizes(source: str, revision: str | None) -> None:
    """Check the sizes of a checkpoint's `config.json`, before anything is made of it.

    Args:
        source: Folder or hub id.
        revision: Of the hub.

    Raises:
        CheckpointError: one is no whole number, too small or absurdly large; or the file is no
            JSON object.
    """
    path = cached_file(
        source, "config.json", revision=revision, _raise_exceptions_for_missing_entries=False
    )
    if path is None:
        return
    try:
        config = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return  # its reader says so
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} is no JSON object; save the checkpoint's config again")
    for name, value in _sizes(config):
        _check(path, name, value)


def _sizes(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Name and value of every key, those of configs inside included."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _sizes(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _check(path: str, name: str, value: Any) -> None:
    most = next((most for ends, most in _MOST if name.endswith(ends)), None)
    if most is None:
        return
    least = 0 if name.endswith(_MAY_BE_ZERO) else 1
    for each in value if isinstance(value, list) else [value]:
        if each is None or isinstance(each, (bool, str, list)):
            continue
        if not isinstance(each, (int, float)) or not least <= each <= most:
            raise CheckpointError(
                f"{path}: {name} is {each}, which no model has ({least} to {most} is taken); save "
                "the checkpoint's config again"
            )
