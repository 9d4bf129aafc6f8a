"""Convolutional networks that train in seconds to minutes on one CPU core."""

from __future__ import annotations

from torch import nn

from workloads.models.layers import GlobalAverage, convolution, normalised
from workloads.models.rules import fits, whole


class SmallCNN(nn.Sequential):
    """Three times convolution 3x3, batch norm, ReLU; max-pool after the second; global average pool.

    The convolutions have ``width``, 2 ``width`` and 4 ``width`` channels and no bias; the features are the
    4 ``width`` averages.

    Initialisation: convolutions He normal (fan out, gain of ReLU); batch norm 1 and 0.

    Args:
        image_shape: channels, height, width; height and width at least 2.
        width: channels of the first convolution.
    Raises: ValueError where width < 1 or the images are too small.
    """

    def __init__(self, image_shape: tuple[int, int, int], width: int = 16) -> None:
        whole("small_cnn_8x8", "width", width, 1)
        fits("small_cnn_8x8", image_shape, 2)
        super().__init__(
            *normalised(convolution(image_shape[0], width)),
            *normalised(convolution(width, 2 * width)),
            nn.MaxPool2d(2),
            *normalised(convolution(2 * width, 4 * width)),
            GlobalAverage(),
        )
        self.features = 4 * width


class SmallCNN28(nn.Sequential):
    """Three times convolution 3x3, max-pool, batch norm, ReLU; global average pool.

    [batch, C, H, W] to ``width``, 2 ``width`` and 4 ``width`` channels at H/2, H/4 and H/8, and to
    [batch, 4 width].

    Initialisation: convolutions He normal (fan out, gain of ReLU); batch norm 1 and 0.

    Args:
        image_shape: channels, height, width; height and width at least 8.
        width: channels of the first convolution.
    Raises: ValueError where width < 1 or the images are too small.
    """

    def __init__(self, image_shape: tuple[int, int, int], width: int = 16) -> None:
        whole("small_cnn_28x28", "width", width, 1)
        fits("small_cnn_28x28", image_shape, 8)
        super().__init__(
            *_pooled(image_shape[0], width),
            *_pooled(width, 2 * width),
            *_pooled(2 * width, 4 * width),
            GlobalAverage(),
        )
        self.features = 4 * width


class SmallCNN32(nn.Sequential):
    """Five convolutions 3x3 with batch norm and ReLU, three of them pooled before the norm; global average.

    [batch, C, H, W] to ``width`` channels at H/2, twice 2 ``width`` at H/4, twice 4 ``width`` at H/8, and to
    [batch, 4 width].

    Initialisation: convolutions He normal (fan out, gain of ReLU); batch norm 1 and 0.

    Args:
        image_shape: channels, height, width; height and width at least 8.
        width: channels of the first convolution.
    Raises: ValueError where width < 1 or the images are too small.
    """

    def __init__(self, image_shape: tuple[int, int, int], width: int = 32) -> None:
        whole("small_cnn_32x32", "width", width, 1)
        fits("small_cnn_32x32", image_shape, 8)
        super().__init__(
            *_pooled(image_shape[0], width),
            *_pooled(width, 2 * width),
            *normalised(convolution(2 * width, 2 * width)),
            *_pooled(2 * width, 4 * width),
            *normalised(convolution(4 * width, 4 * width)),
            GlobalAverage(),
        )
        self.features = 4 * width


def _pooled(channels: int, width: int) -> list[nn.Module]:
    # The pool stands before the norm, which so has a quarter of the numbers to read: a fifth of a step.
    layer, norm, relu = normalised(convolution(channels, width))
    return [layer, nn.MaxPool2d(2), norm, relu]
