"""Pictures and questions that the arr-coc artifacts are checked with."""

import sys
from pathlib import Path

from builder.errors import SpecError
from builder.runtime.models.preprocess.image import ImageError, decode
from builder.spec.models import Spec
from builder.verify.pictures import sample_pictures

QUESTIONS = (
    "What is in the picture?",
    "How many animals are there?",
    "What colour is the largest thing, and where does it stand?",
    "Read the text.",
    "Is anybody looking at the camera?",
)


def verification_pictures(spec: Spec, base: Path) -> list[bytes]:
    """Encoded pictures: the spec's own, else bundled photos, else generated ones.

    Raises:
        SpecError: a picture that the spec names can't be read or is none.
    """
    if not spec.verify.pictures:
        return sample_pictures()
    pictures = []
    for name in spec.verify.pictures:
        try:
            pictures.append((base / name).read_bytes())
            decode(pictures[-1], sys.maxsize)
        except OSError as error:
            raise SpecError(f"verify.pictures: {error.filename}: {error.strerror}") from error
        except ImageError as error:
            sentence = str(error).removeprefix("IMAGE ")
            raise SpecError(f"verify.pictures: {base / name} {sentence}") from error
    return pictures
