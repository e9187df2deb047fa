"""How a checkpoint's image processor turns pictures into what its model takes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from transformers import AutoImageProcessor

from builder.checkpoint.files import CheckpointFiles
from builder.checkpoint.hub import checkpoint_errors
from builder.errors import CheckpointError
from builder.render.model_config import Tensor
from builder.runtime.models.pixels.pixels_settings import PixelsSettings
from builder.runtime.models.pixels.resize import Sizes, fit
from builder.runtime.models.preprocess.image import decode
from builder.verify.pictures import sample_pictures

IMAGE = Tensor("IMAGE", "STRING", (1,))
DEFAULT_MAX_PIXELS = 50_000_000
# Of odd shapes, so that every branch of resizing and cropping is compared.
_ODD = ((17, 300), (401, 29), (224, 224), (64, 48), (333, 500))


@dataclass(frozen=True)
class Preparation:
    """What is done to a picture: sizes in the `pixels` stage, colours in the graph.

    Attributes:
        sizes: Resizing and cropping.
        scale: What a colour of 0 to 255 is multiplied with.
        mean: Subtracted then, one a channel.
        std: Divided by then.
        processor: The checkpoint's own image processor, the reference.
    """

    sizes: Sizes
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    processor: Any

    @property
    def pixels(self) -> Tensor:
        """What the graph takes."""
        return Tensor("pixels", "UINT8", (self.sizes.height, self.sizes.width, 3))

    def settings(self, max_pixels: int | None) -> PixelsSettings:
        """Settings of the stage `pixels`."""
        return PixelsSettings(**vars(self.sizes), max_image_pixels=max_pixels or DEFAULT_MAX_PIXELS)

    def values(self, image: Image.Image) -> torch.Tensor:
        """What the checkpoint's own processor makes of a picture: fp32 [1, 3, H, W]."""
        found: torch.Tensor = self.processor(images=image, return_tensors="pt")["pixel_values"]
        return found

    def batches(self) -> Iterator[tuple[NDArray[np.uint8], list[torch.Tensor]]]:
        """Pixels uint8 [B, H, W, 3] and what the checkpoint's processor makes of each picture."""
        images = [decode(data, DEFAULT_MAX_PIXELS) for data in sample_pictures()]
        random = np.random.default_rng(0)
        for height, width in _ODD:
            noise = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
            images.append(Image.fromarray(noise))
        for first, last in ((0, 1), (1, len(images))):
            batch = images[first:last]
            pixels = np.stack([fit(image, self.sizes) for image in batch])
            yield pixels, [self.values(image) for image in batch]


class Colours(nn.Module):
    """Pixels uint8 [B, H, W, 3] -> fp32 [B, 3, H, W], rescaled and normalized."""

    factor: torch.Tensor
    offset: torch.Tensor

    def __init__(self, preparation: Preparation) -> None:
        super().__init__()
        shape = (1, 3, 1, 1)
        std = torch.tensor(preparation.std, dtype=torch.float64).reshape(shape)
        mean = torch.tensor(preparation.mean, dtype=torch.float64).reshape(shape)
        self.register_buffer("factor", (preparation.scale / std).float())
        self.register_buffer("offset", (-mean / std).float())

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """One multiplication and one addition a colour."""
        values = pixels.permute(0, 3, 1, 2).to(torch.float32)
        return values * self.factor + self.offset


def _side(size: Any, key: str) -> int:
    value = size.get(key) if size else None
    return int(value) if value else 0


def _sizes(processor: Any, source: str) -> Sizes:
    """Sizes that an image processor asks for.

    Raises:
        CheckpointError: they depend on the picture.
    """
    size = dict(processor.size or {}) if processor.do_resize else {}
    crop = dict(processor.crop_size or {}) if getattr(processor, "do_center_crop", False) else {}
    shortest = _side(size, "shortest_edge")
    resized = (_side(size, "height"), _side(size, "width"))
    wanted = (_side(crop, "height"), _side(crop, "width"))
    percentage = getattr(processor, "crop_pct", None)
    if percentage and shortest:  # ConvNeXt's: crop below 384 pixels, squeeze from there on
        wanted = (shortest, shortest)
        resized = (0, 0) if shortest < 384 else wanted
        shortest = int(shortest / percentage) if shortest < 384 else 0
    if not all(wanted):
        wanted = resized
    if not all(wanted) or _side(size, "longest_edge") or _side(size, "max_height"):
        raise CheckpointError(
            f"{source}: its image processor ({type(processor).__name__}) makes pictures of "
            "no fixed size, which can't be batched"
        )
    return Sizes(*wanted, shortest, resized, int(processor.resample))


def read_preparation(files: CheckpointFiles) -> Preparation:
    """Read a checkpoint's image processor, and make sure that the served stages do the same.

    Raises:
        CheckpointError: it has none, or one that does more than resize, crop, rescale and
            normalize.
    """
    if files.json("preprocessor_config.json") is None:
        raise CheckpointError(
            f"{files.source} has no preprocessor_config.json: nothing says how its pictures are "
            "prepared"
        )
    with checkpoint_errors(files.source):
        processor = AutoImageProcessor.from_pretrained(files.source, backend="pil", **files.options)
    rescale, normalize = processor.do_rescale, processor.do_normalize
    found = Preparation(
        sizes=_sizes(processor, files.source),
        scale=float(processor.rescale_factor) if rescale else 1.0,
        mean=tuple(map(float, processor.image_mean)) if normalize else (0.0,) * 3,
        std=tuple(map(float, processor.image_std)) if normalize else (1.0,) * 3,
        processor=processor,
    )
    _require_same(found, files.source)
    return found


def _require_same(preparation: Preparation, source: str) -> None:
    colours = Colours(preparation)
    for pixels, values in preparation.batches():
        found, wanted = colours(torch.from_numpy(pixels)), torch.cat(values)
        if found.shape != wanted.shape or not torch.allclose(found, wanted, atol=1e-4):
            raise CheckpointError(
                f"{source}: its image processor ({type(preparation.processor).__name__}) does more "
                "than resize, crop, rescale and normalize, which can't be built"
            )
