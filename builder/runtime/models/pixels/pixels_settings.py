"""Settings of the stage `pixels`."""

from dataclasses import dataclass

from .resize import Sizes


@dataclass(frozen=True)
class PixelsSettings(Sizes):
    """Sizes of pictures.

    Attributes:
        max_image_pixels: Larger pictures are refused before they are decoded.
    """

    max_image_pixels: int
