"""The texture array: 13 hand-made channels on the token grid.

Everything is a function of the mean colour of each token cell. The cell sums are sums of bytes
and therefore exact in fp32 (a cell of 140 x 140 pixels stays below 2**24); what follows runs in the
dtype asked for. In fp64 two runtimes agree to about 1e-15, so that they also agree on the order
of the tokens, which fp32 can't promise.
"""

from typing import Final

import torch

CHANNELS: Final = (
    "red",
    "green",
    "blue",
    "lightness",  # CIE L*, 0 to 1
    "redness",  # CIE a*, about -1 to 1
    "sobel_x",
    "sobel_y",
    "sobel_magnitude",
    "y",
    "x",
    "eccentricity",
    "saliency",
    "luminance",
)
"""Name of each channel of the texture array, in order."""

# IEC 61966-2-1 (sRGB) to CIE XYZ, D65, rows already divided by the white point.
RGB_TO_XYZ: Final = (
    (0.4124564 / 0.95047, 0.3575761 / 0.95047, 0.1804375 / 0.95047),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339 / 1.08883, 0.1191920 / 1.08883, 0.9503041 / 1.08883),
)
CIE_EPSILON: Final = (6 / 29) ** 3
CIE_SLOPE: Final = 1 / (3 * (6 / 29) ** 2)


def cell_means(pixels: torch.Tensor, rows: int, cols: int, dtype: torch.dtype) -> torch.Tensor:
    """Mean colour of each token cell.

    Args:
        pixels: uint8 [B, H, W, 3], sRGB; H and W are multiples of rows and cols.
        rows: Token cells from top to bottom.
        cols: Token cells from left to right.
        dtype: Dtype of the result.

    Returns:
        [B, rows, cols, 3], 0 to 1.
    """
    batch, height, width, _ = pixels.shape
    cells = pixels.reshape(batch, rows, height // rows, cols, width // cols, 3)
    # Rows of a cell first, then its columns: integers below 2**24 at every step.
    sums = cells.to(torch.float32).sum(dim=2).sum(dim=3)
    return sums.to(dtype) / (255.0 * (height // rows) * (width // cols))


def linear_light(rgb: torch.Tensor) -> torch.Tensor:
    """Undo the sRGB curve, 0 to 1 -> 0 to 1."""
    return torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055).clamp(min=0.0) ** 2.4)


def _lab(rgb: torch.Tensor) -> torch.Tensor:
    """CIE L*a*b* / 100 and the relative luminance Y of sRGB colours: [..., 3] -> [..., 4]."""
    linear = linear_light(rgb)
    matrix = torch.tensor(RGB_TO_XYZ, dtype=rgb.dtype, device=rgb.device)
    # Sums written out: a matrix product may order them differently in each runtime.
    xyz = (linear.unsqueeze(-2) * matrix).sum(dim=-1)
    cube_root = xyz.clamp(min=CIE_EPSILON) ** (1 / 3)
    f = torch.where(xyz > CIE_EPSILON, cube_root, CIE_SLOPE * xyz + 4 / 29)
    fx, fy, fz = f.unbind(-1)
    return torch.stack(
        (1.16 * fy - 0.16, 5.0 * (fx - fy), 2.0 * (fy - fz), xyz[..., 1]),
        dim=-1,
    )


def _sobel(plane: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sobel derivatives along x and y with repeated borders, [B, rows, cols] each, -1 to 1."""
    padded = torch.cat((plane[:, :1], plane, plane[:, -1:]), dim=1)
    padded = torch.cat((padded[:, :, :1], padded, padded[:, :, -1:]), dim=2)
    smooth_y = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    smooth_x = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
    return (smooth_y[:, :, 2:] - smooth_y[:, :, :-2]) / 4, (smooth_x[:, 2:] - smooth_x[:, :-2]) / 4


def place_channels(rows: int, cols: int, dtype: torch.dtype) -> torch.Tensor:
    """The channels y, x and eccentricity, which no picture changes: [rows, cols, 3]."""
    y = torch.linspace(-1, 1, rows, dtype=dtype)[:, None].expand(rows, cols)
    x = torch.linspace(-1, 1, cols, dtype=dtype)[None, :].expand(rows, cols)
    return torch.stack((y, x, torch.sqrt((x**2 + y**2) / 2)), dim=-1)


def texture_array(
    pixels: torch.Tensor, rows: int, cols: int, dtype: torch.dtype = torch.float64
) -> torch.Tensor:
    """The 13 texture channels of every token cell.

    Saliency is the distance of a cell's L*a*b* colour from the picture's mean colour (Achanta et
    al., "Frequency-tuned salient region detection", 2009); luminance is the relative luminance Y
    in linear light.

    Args:
        pixels: uint8 [B, H, W, 3], sRGB.
        rows: Token cells from top to bottom.
        cols: Token cells from left to right.
        dtype: Dtype to compute in.

    Returns:
        [B, rows * cols, 13] in the order of `CHANNELS`.
    """
    rgb = cell_means(pixels, rows, cols, dtype)
    lab = _lab(rgb)
    lightness = lab[..., 0]
    sobel_x, sobel_y = _sobel(lightness)
    magnitude = torch.sqrt(sobel_x**2 + sobel_y**2)
    difference = lab[..., :3] - lab[..., :3].mean(dim=(1, 2), keepdim=True)
    saliency = torch.sqrt((difference**2).sum(dim=-1))
    places = place_channels(rows, cols, dtype).to(pixels.device).expand(len(pixels), -1, -1, -1)
    channels = (
        rgb,
        lab[..., 0:2],
        torch.stack((sobel_x, sobel_y, magnitude), dim=-1),
        places,
        saliency.unsqueeze(-1),
        lab[..., 3:4],
    )
    return torch.cat(channels, dim=-1).reshape(pixels.shape[0], rows * cols, len(CHANNELS))
