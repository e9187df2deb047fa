"""A picture to the size that a model takes, as its image processor resizes and crops."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class Sizes:
    """How a picture becomes `height` x `width` pixels.

    Attributes:
        height: Of what the model takes.
        width: Of what the model takes.
        shortest: The shorter side is resized to this, the other in proportion; 0: not.
        resized: (height, width) that the picture is resized to, whatever its proportions; (0, 0):
            not.
        resample: Pillow's number of the filter.
    """

    height: int
    width: int
    shortest: int
    resized: tuple[int, int]
    resample: int


def fit(image: Image.Image, sizes: Sizes) -> NDArray[np.uint8]:
    """Resize, then cut the middle out; what is missing is black.

    The arithmetic is that of `transformers.image_transforms` (`get_resize_output_image_size`,
    `center_crop`) of transformers 5.23.

    Args:
        image: In RGB.
        sizes: What to do.

    Returns:
        uint8 [height, width, 3].
    """
    size = None
    if sizes.shortest:
        short, long = sorted(image.size)
        scaled = int(sizes.shortest * long / short)
        size = (sizes.shortest, scaled) if image.width <= image.height else (scaled, sizes.shortest)
    elif sizes.resized != (0, 0):
        size = (sizes.resized[1], sizes.resized[0])
    if size is not None and size != image.size:
        image = image.resize(size, Image.Resampling(sizes.resample))
    if (image.height, image.width) != (sizes.height, sizes.width):
        left = (image.width - sizes.width) // 2
        top = (image.height - sizes.height) // 2
        image = image.crop((left, top, left + sizes.width, top + sizes.height))
    return np.asarray(image)
