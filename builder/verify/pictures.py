"""Pictures and questions that artifacts are checked with."""

import importlib.resources
import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from builder.errors import SpecError
from builder.runtime.models.preprocess.image import ImageError, decode
from builder.spec.models import Spec

QUESTIONS = (
    "What is in the picture?",
    "How many animals are there?",
    "What colour is the largest thing, and where does it stand?",
    "Read the text.",
    "Is anybody looking at the camera?",
)

_BUNDLED = ("coffee.png", "chelsea.png", "astronaut.png", "rocket.jpg", "text.png", "camera.png")


def _bundled() -> list[bytes]:
    """Photos that ship inside the scikit-image wheel."""
    try:
        folder = importlib.resources.files("skimage") / "data"
    except ModuleNotFoundError:
        return []
    return [path.read_bytes() for name in _BUNDLED if (path := folder / name).is_file()]


def _generated(count: int = 4) -> list[bytes]:
    """Noise over gradients, where no photo is at hand."""
    pictures = []
    for seed in range(count):
        random = np.random.default_rng(seed)
        ramp = np.linspace(0, 200, 320)[None, :, None] + random.integers(0, 56, (240, 320, 3))
        buffer = io.BytesIO()
        Image.fromarray(ramp.astype(np.uint8)).save(buffer, "PNG")
        pictures.append(buffer.getvalue())
    return pictures


def sample_pictures() -> list[bytes]:
    """Encoded pictures: bundled photos, else generated ones."""
    return _bundled() or _generated()


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
