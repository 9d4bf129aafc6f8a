"""The residual network of 32 layers for CIFAR."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from workloads.models.layers import GlobalAverage
from workloads.models.rules import fits

BLOCKS = 5
"""Of each stage: 6 * 5 + 2 layers with weights."""


class ResNet32(nn.Sequential):
    """A convolution, three stages of five basic blocks with 16, 32 and 64 channels, average.

    [batch, C, H, W] to 16, 32 and 64 channels at H, H/2 and H/4, and to [batch, 64]. The shortcuts have no
    weights (option A).

    Initialisation: convolutions He normal (fan in, gain of ReLU); batch norm 1 and 0.

    Args:
        image_shape: channels, height, width; height and width at least 4.
    Raises: ValueError where the images do not fit.
    Source: He et al. 2016, section 4.2; public code of LDAM's authors (kaidic/LDAM-DRW).
    Differs from source: nothing; the code's linear layer belongs to the head here.
    """

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        fits("resnet32", image_shape, 4)
        layers: list[nn.Module] = [
            _convolution(image_shape[0], 16, 1),
            nn.BatchNorm2d(16),
            nn.ReLU(inplace=True),
        ]
        channels = 16
        for width, stride in ((16, 1), (32, 2), (64, 2)):
            for block in range(BLOCKS):
                layers.append(PaddedBlock(channels, width, stride if block == 0 else 1))
                channels = width
        super().__init__(*layers, GlobalAverage())
        self.features = channels


class PaddedBlock(nn.Module):
    """Convolution, batch norm, ReLU, convolution, batch norm; what came in is added; ReLU.

    Where the shape changes, every other pixel of what came in is added, between channels of zeros.
    """

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.missing = (width - channels) // 2
        """Channels of zeros on either side of the shortcut's."""
        self.residual = nn.Sequential(
            _convolution(channels, width, stride),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            _convolution(width, width, 1),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x
        if self.missing:
            sampled = x[:, :, :: self.stride, :: self.stride]
            shortcut = F.pad(sampled, (0, 0, 0, 0, self.missing, self.missing))
        residual: Tensor = self.residual(x)
        return residual.add_(shortcut).relu_()


def _convolution(channels: int, width: int, stride: int) -> nn.Conv2d:
    layer = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
    return layer
