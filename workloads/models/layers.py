"""Layers that several architectures are made of."""

from __future__ import annotations

from torch import Tensor, nn


class GlobalAverage(nn.Module):
    """Mean over the image: [batch, C, H, W] to [batch, C]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


def convolution(channels: int, width: int, kernel: int = 3, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    """A convolution without bias that keeps the image's size but for its stride (odd kernels).

    Initialisation: He normal (fan out, gain of ReLU).
    """
    padding = dilation * (kernel // 2)
    layer = nn.Conv2d(channels, width, kernel, stride, padding, dilation, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer


def normalised(layer: nn.Conv2d) -> list[nn.Module]:
    """The convolution, then batch norm (1 and 0 at the start) and ReLU."""
    return [layer, nn.BatchNorm2d(layer.out_channels), nn.ReLU(inplace=True)]


def activated(channels: int) -> list[nn.Module]:
    """Batch norm (1 and 0 at the start) and ReLU, before a convolution."""
    return [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
