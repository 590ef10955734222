"""Tensors as pictures: grids of images, feature maps, matrices, and maps over images. All are [3, H, W] of uint8."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

MOST: Final = 16
"""So many images stand in a grid."""
SIDE: Final = 224
"""Images with a longer side are made smaller."""


def is_image(batch: Tensor) -> bool:
    """Whether a batch holds images: [N, 1 or 3, H, W] of floats or bytes."""
    return batch.dim() == 4 and batch.shape[1] in (1, 3) and min(batch.shape[2:]) > 1


def shown(images: Tensor) -> Tensor:
    """Images [N, 1 or 3, H, W] as floats from 0 to 1, [N, 3, H, W]; what is not in that range is stretched to it.

    Normalised images have lost their range, so each is stretched by its own least and largest number.
    """
    found = images.detach().float().cpu()
    if images.dtype == torch.uint8:
        found = found / 255
    elif not bool((found.amin() >= 0) & (found.amax() <= 1)):
        low, high = found.flatten(1).amin(1)[:, None, None, None], found.flatten(1).amax(1)[:, None, None, None]
        found = (found - low) / (high - low).clamp(min=1e-12)
    found = found.nan_to_num(0.0, 1.0, 0.0).expand(-1, 3, -1, -1)
    longest = max(found.shape[2:])
    if longest > SIDE:
        found = torch.nn.functional.interpolate(
            found, scale_factor=SIDE / longest, mode="bilinear", antialias=True, align_corners=False
        )
    return found


def in_bytes(image: Tensor) -> Tensor:
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)


def grid(images: Tensor, count: int = MOST) -> Tensor:
    """The first images of a batch, side by side with a thin frame: torchvision's `make_grid`."""
    from torchvision.utils import make_grid

    tiles = shown(images[:count])
    return in_bytes(make_grid(tiles, nrow=math.ceil(math.sqrt(len(tiles))), padding=1, pad_value=1.0))


def feature_grid(maps: Tensor, count: int = 64) -> Tensor:
    """The first channels of one sample's maps [C, H, W], each stretched to its own range."""
    from torchvision.utils import make_grid

    found = maps[:count].detach().float().cpu().unsqueeze(1)
    low, high = found.flatten(1).amin(1)[:, None, None, None], found.flatten(1).amax(1)[:, None, None, None]
    found = ((found - low) / (high - low).clamp(min=1e-12)).nan_to_num(0.0, 1.0, 0.0)
    if max(found.shape[2:]) < 32:
        found = torch.nn.functional.interpolate(found, scale_factor=32 // max(found.shape[2:]), mode="nearest")
    return in_bytes(make_grid(found, nrow=math.ceil(math.sqrt(len(found))), padding=1, pad_value=1.0))


def colored(map_: Tensor) -> Tensor:
    """A map [..., H, W] of numbers from 0 to 1 in colours, [..., 3, H, W] from 0 to 1: blue, green, yellow, red.

    The polynomial of Google's Turbo, by Anton Mikhailov and Ruofei Du (2019), which keeps close to its table.
    """
    x = map_.clamp(0, 1)
    powers = torch.stack([x**k for k in range(6)])
    channels = [torch.tensordot(torch.tensor(c), powers, dims=([0], [0])) for c in _TURBO]
    return torch.stack(channels, dim=-3).clamp(0, 1)


_TURBO: Final = (
    [0.13572138, 4.61539260, -42.66032258, 132.13108234, -152.94239396, 59.28637943],
    [0.09140261, 2.19418839, 4.84296658, -14.18503333, 4.27729857, 2.82956604],
    [0.10667330, 12.64194608, -60.58204836, 110.36276771, -89.90310912, 27.34824973],
)


def overlay(images: Tensor, maps: Tensor, strength: float = 0.5) -> Tensor:
    """Maps [N, h, w] in colours over the images [N, 3, H, W], both from 0 to 1; the larger a number, the more of it."""
    large = torch.nn.functional.interpolate(
        maps.unsqueeze(1), size=images.shape[2:], mode="bilinear", align_corners=False
    )
    share = strength * (0.35 + 0.65 * large)
    return images * (1 - share) + colored(large.squeeze(1)) * share


def stretched(maps: Tensor) -> Tensor:
    """Maps [N, h, w], each from 0 (its least, or 0 where all are above) to 1."""
    low = maps.flatten(1).amin(1).clamp(max=0)[:, None, None]
    high = maps.flatten(1).amax(1)[:, None, None]
    return (maps - low) / (high - low).clamp(min=1e-12)


def drawn_confusion(matrix: Tensor, names: Sequence[str], title: str) -> Tensor:
    """The confusion matrix as a picture with names and counts."""
    import numpy
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from netspec.runtime.plots import confusion_figure

    canvas = FigureCanvasAgg(confusion_figure(matrix.tolist(), names, title))
    canvas.draw()  # type: ignore[no-untyped-call]
    drawn = numpy.array(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    return torch.from_numpy(drawn[..., :3].transpose(2, 0, 1).copy())
