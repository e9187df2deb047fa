"""What the artifact of an arr-coc stage is made from."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

from builder.cache.key import cache_key
from builder.spec.language import SERVING
from builder.spec.models import Spec
from builder.spec.triton.model import BatchedStage

_SERVED: Final = {"max_batch_size", "instances", "onnxruntime", *BatchedStage.model_fields}


def stage_key(spec: Spec, stage: str, files: Mapping[str, str], pictures: Sequence[bytes]) -> str:
    """The key of a stage's verified artifact.

    Args:
        spec: The spec.
        stage: `vision`, `relevance` or `language`.
        files: What the checkpoint is told apart by: `source_hashes`.
        pictures: What it is verified with.
    """
    own = getattr(spec.stages, stage).model_dump(mode="json", exclude=SERVING | _SERVED)
    shared = spec.model_dump(
        mode="json",
        exclude={
            "name": True,
            "stages": True,
            "ensemble": True,
            "checkpoint": {"path"},
            "limits": {"max_image_pixels", "max_tokens", "default_max_tokens"},
        },
    )
    seen = [hashlib.sha256(picture).hexdigest() for picture in pictures]
    return cache_key(
        {"stage": stage, "own": own, "spec": shared, "from": dict(files), "pictures": seen}
    )
