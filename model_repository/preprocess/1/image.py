"""Encoded pictures to the pixels that the vision and relevance stages read."""

import io
from collections.abc import Sequence

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


def check_count(pictures: int, most: int) -> None:
    """Refuse a request with no picture or too many.

    Raises:
        ImageError: with the number that there may be.
    """
    if not 1 <= pictures <= most:
        wanted = "one" if most == 1 else f"1 to {most}"
        raise ImageError(f"IMAGE has {pictures or 'no'} pictures; a request takes {wanted}")


def decode(data: bytes, max_pixels: int) -> Image.Image:
    """Decode a picture, upright and in RGB.

    Args:
        data: The encoded picture; of an animation the first frame counts.
        max_pixels: Pictures with more pixels are refused before they are decoded.

    Raises:
        ImageError: no picture, a damaged one, or one that is too large.
    """
    return decode_all([data], max_pixels)[0]


def decode_all(pictures: Sequence[bytes], max_pixels: int) -> list[Image.Image]:
    """Decode the pictures of a request, upright and in RGB.

    Args:
        pictures: Encoded.
        max_pixels: Pixels that they may have together; checked before any is decoded.

    Raises:
        ImageError: one of them is none, damaged, or too large; one of several is named by its
            place.
    """
    names = [f"IMAGE {i + 1} of {len(pictures)}" for i in range(len(pictures))]
    if len(pictures) == 1:
        names = ["IMAGE"]
    opened = [_open(data, name) for data, name in zip(pictures, names, strict=True)]
    total = 0
    for image, name in zip(opened, names, strict=True):
        pixels = image.width * image.height
        total += pixels
        if pixels > max_pixels:
            raise ImageError(
                f"{name} has {image.width} x {image.height} pixels; "
                f"at most {max_pixels} are allowed"
            )
    if total > max_pixels:
        raise ImageError(
            f"the {len(pictures)} pictures in IMAGE have {total} pixels together; "
            f"at most {max_pixels} are allowed"
        )
    return [_load(image, name) for image, name in zip(opened, names, strict=True)]


def _open(data: bytes, name: str) -> Image.Image:
    """The header of a picture; its pixels are decoded later."""
    if not data:
        raise ImageError(f"{name} is empty; send the bytes of a JPEG, PNG, WebP, GIF or BMP file")
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except Exception as error:
        raise ImageError(
            f"{name} is not a readable picture ({len(data)} bytes); "
            "send the bytes of a JPEG, PNG, WebP, GIF or BMP file"
        ) from error


def _load(image: Image.Image, name: str) -> Image.Image:
    try:
        image.load()
        return ImageOps.exif_transpose(image).convert("RGB")
    except Exception as error:
        raise ImageError(f"{name} is damaged and can't be decoded: {error}") from error


def to_pixels(image: Image.Image, height: int, width: int) -> NDArray[np.uint8]:
    """Resize (bicubic, as Qwen2-VL's image processor does) to a grid of token cells.

    Returns:
        uint8 [height, width, 3].
    """
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image)
