"""Encoded pictures to the pixels that the vision and relevance stages read."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
)

# Loaded with the stage: Pillow would look for them during the first request (100 ms, seen).
_DECODERS = (
    JpegImagePlugin.JpegImageFile,
    PngImagePlugin.PngImageFile,
    WebPImagePlugin.WebPImageFile,
    GifImagePlugin.GifImageFile,
    BmpImagePlugin.BmpImageFile,
)
FORMATS = tuple(decoder.format for decoder in _DECODERS)
"""Formats that are decoded; Pillow knows more, but rarer decoders are a larger attack surface."""

# `decode` has its own limit, checked before any pixel is decoded; Pillow's would hide the size.
Image.MAX_IMAGE_PIXELS = None


class ImageError(ValueError):
    """The bytes are not a picture that can be used; the message is for the client."""


def decode(data: bytes, max_pixels: int) -> Image.Image:
    """Decode a picture, upright and in RGB.

    Args:
        data: The encoded picture; of an animation the first frame counts.
        max_pixels: Pictures with more pixels are refused before they are decoded.

    Raises:
        ImageError: no picture, a damaged one, or one that is too large.
    """
    if not data:
        raise ImageError("IMAGE is empty; send the bytes of a JPEG, PNG, WebP, GIF or BMP file")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Exception as error:
        raise ImageError(
            f"IMAGE is not a readable picture ({len(data)} bytes); "
            "send the bytes of a JPEG, PNG, WebP, GIF or BMP file"
        ) from error
    if image.width * image.height > max_pixels:
        raise ImageError(
            f"IMAGE has {image.width} x {image.height} pixels; at most {max_pixels} are allowed"
        )
    try:
        image.load()
        return ImageOps.exif_transpose(image).convert("RGB")
    except Exception as error:
        raise ImageError(f"IMAGE is damaged and can't be decoded: {error}") from error


def to_pixels(image: Image.Image, height: int, width: int) -> NDArray[np.uint8]:
    """Resize (bicubic, as Qwen2-VL's image processor does) to a grid of token cells.

    Returns:
        uint8 [height, width, 3].
    """
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image)
