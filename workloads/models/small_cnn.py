"""A convolutional network for images of about 8x8: a training run takes a second on one CPU core."""

from __future__ import annotations

from torch import Tensor, nn


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
        channels, height, across = image_shape
        if width < 1:
            raise ValueError(f"small_cnn_8x8: width must be at least 1; got {width}")
        if min(height, across) < 2:
            raise ValueError(f"small_cnn_8x8: images must be at least 2x2; got {height}x{across}")
        super().__init__(
            *_block(channels, width),
            *_block(width, 2 * width),
            nn.MaxPool2d(2),
            *_block(2 * width, 4 * width),
            GlobalAverage(),
        )
        self.features = 4 * width


class GlobalAverage(nn.Module):
    """Mean over the image: [batch, C, H, W] to [batch, C]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


def _block(channels: int, width: int) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, width, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return [convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
