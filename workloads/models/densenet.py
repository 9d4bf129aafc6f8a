"""Densely connected networks with bottleneck and compression."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from workloads.models.dropout import Dropout
from workloads.models.layers import GlobalAverage, activated, convolution
from workloads.models.rules import fits, probability, six_n_plus_four, whole


class DenseNetBC(nn.Sequential):
    """DenseNet-BC: a convolution, three dense blocks of (depth - 4)/6 layers, batch norm, ReLU, average.

    [batch, C, H, W] to maps at H, H/2 and H/4; each dense layer appends ``growth`` channels, each of the two
    transitions halves channels and image. At the defaults 24, 108 and 150 channels enter the blocks, and
    [batch, 342] leave.

    Initialisation: convolutions He normal (fan out, gain of ReLU); batch norm 1 and 0.

    Args:
        image_shape: channels, height, width; height and width at least 4.
        depth: layers with weights; 6n + 4.
        growth: k, channels that a layer appends.
        dropout: probability of zero after each convolution of a layer.
    Raises: ValueError where a parameter or the images do not fit.
    Source: Huang et al. 2017, "Densely Connected Convolutional Networks", table 2; public code of its authors
        (liuzhuang13/DenseNet).
    Differs from source: dropout is 0 by default, the paper's value where the data is augmented.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], depth: int = 100, growth: int = 12, dropout: float = 0.0
    ) -> None:
        name = "densenet_bc"
        n = six_n_plus_four(name, "depth", depth)
        whole(name, "growth", growth, 1)
        probability(name, "dropout", dropout)
        fits(name, image_shape, 4)
        channels = 2 * growth
        layers: list[nn.Module] = [convolution(image_shape[0], channels)]
        for block in range(3):
            if block > 0:
                layers += [*activated(channels), convolution(channels, channels // 2, 1), nn.AvgPool2d(2)]
                channels //= 2
            for _ in range(n):
                layers.append(DenseLayer(channels, growth, dropout))
                channels += growth
        super().__init__(*layers, *activated(channels), GlobalAverage())
        self.features = channels


class DenseLayer(nn.Module):
    """Appends ``growth`` channels: batch norm, ReLU, 1x1 to 4 ``growth``; batch norm, ReLU, 3x3."""

    def __init__(self, channels: int, growth: int, dropout: float) -> None:
        super().__init__()
        self.new = nn.Sequential(
            *activated(channels),
            convolution(channels, 4 * growth, 1),
            Dropout(dropout),
            *activated(4 * growth),
            convolution(4 * growth, growth),
            Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.new(x)], dim=1)  # [batch, channels + growth, H, W]
