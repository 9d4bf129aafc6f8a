"""One encoded image to pixels of a wanted shape."""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from workloads.data.readers import Encoded

_GREY_MODES = frozenset({"1", "L", "LA"})
_DEEP_MODES = ("I", "F")


class Raw(NamedTuple):
    """What an image was before it was converted."""

    channels: int
    height: int
    width: int
    encoding: str


def convert(
    image: Encoded, channels: int | None, size: tuple[int, int] | None
) -> tuple[npt.NDArray[np.uint8], Raw]:
    """Decode an image, give it ``channels`` (1 or 3), then ``size``.

    Grey becomes colour by repetition, colour grey by the ITU-R 601 luma. Where the size differs, the image is
    scaled (bilinear, with antialiasing when it shrinks) until the wanted size just fits, and its centre cut
    out: a square takes its side from the shorter side.

    Args:
        channels: None: as many as the image has.
        size: height, width; None: its own.
    Returns: (uint8 [channels, height, width], what it was).
    Raises: ValueError for more than 8 bits a channel; OSError and others of PIL's for what is no image.
    """
    if isinstance(image, np.ndarray):
        opened, encoding = Image.fromarray(np.ascontiguousarray(image)), "raw"
    else:
        opened = Image.open(image if isinstance(image, Path) else io.BytesIO(image))
        encoding = str(opened.format).lower()
    if opened.mode.startswith(_DEEP_MODES):
        raise ValueError(f"pixels must have 8 bits a channel; got mode {opened.mode}")
    raw = Raw(1 if opened.mode in _GREY_MODES else 3, opened.height, opened.width, encoding)
    wanted = "L" if (channels or raw.channels) == 1 else "RGB"
    if opened.mode == "P" and "transparency" in opened.info:
        # PIL warns unless such a palette goes this way; what is transparent is dropped as for other images.
        opened = opened.convert("RGBA")
    opened = opened if opened.mode == wanted else opened.convert(wanted)
    if size is not None and size != (raw.height, raw.width):
        opened = _fitted(opened, size)
    pixels = np.asarray(opened, dtype=np.uint8)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1), raw


def _fitted(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    height, width = size
    scale = max(height / image.height, width / image.width)
    # Rounded up only by what floating point took away: torchvision's Resize truncates the longer side too.
    scaled = (
        max(width, int(image.width * scale + 1e-9)),
        max(height, int(image.height * scale + 1e-9)),
    )
    image = image.resize(scaled, Image.Resampling.BILINEAR)
    left, top = round((scaled[0] - width) / 2), round((scaled[1] - height) / 2)
    return image.crop((left, top, left + width, top + height))


def described(counts: dict[Raw, int], channels: int, size: tuple[int, int]) -> str:
    """What :func:`convert` did to images, in the words of ``DataFacts.sets``.

    Args:
        counts: how many images were what.
        channels, size: what they became.
    """
    steps = []
    sizes = {(raw.height, raw.width) for raw in counts}
    if sizes - {size}:
        before = _side(*next(iter(sizes))) if len(sizes) == 1 else "varied"
        steps.append(f"resize {before}->{_side(*size)}")
    every = sum(counts.values())
    recoloured = sum(times for raw, times in counts.items() if raw.channels != channels)
    if recoloured:
        some = "" if recoloured == every else f" {recoloured} of {every}"
        steps.append(("grey_to_colour" if channels == 3 else "colour_to_grey") + some)
    return ", ".join(steps) or "none"


def _side(height: int, width: int) -> str:
    return str(height) if height == width else f"{height}x{width}"
