"""Pictures that artifacts are checked with."""

import importlib.resources
import io

import numpy as np
from PIL import Image

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
