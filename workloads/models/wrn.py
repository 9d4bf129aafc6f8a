"""Wide residual networks, and the sizes of them that papers name."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from workloads.models.dropout import Dropout
from workloads.models.layers import GlobalAverage, activated, convolution
from workloads.models.rules import fits, probability, six_n_plus_four, whole


class WideResNet(nn.Sequential):
    """WRN-d-k: a convolution, three groups of (d - 4)/6 pre-activation blocks, batch norm, ReLU, average.

    [batch, C, H, W] to 16k, 32k and 64k channels at H, H/2 and H/4, and to [batch, 64k].

    Initialisation: convolutions He normal (fan out, gain of ReLU); batch norm 1 and 0.

    Args:
        image_shape: channels, height, width; height and width at least 4.
        depth: d, convolutions, with the three of the shortcuts; 6n + 4.
        width: k, by how much the groups are wider than those of a plain residual network.
        dropout: probability of zero between the two convolutions of a block.
    Raises: ValueError where a parameter or the images do not fit.
    Source: Zagoruyko and Komodakis 2016; public code of LogitNorm's authors (hongxin001/logitnorm_ood).
    Differs from source: the average is over the whole map, whatever the size of the images.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], depth: int = 40, width: int = 2, dropout: float = 0.3
    ) -> None:
        n = six_n_plus_four("wrn", "depth", depth)
        whole("wrn", "width", width, 1)
        probability("wrn", "dropout", dropout)
        fits("wrn", image_shape, 4)
        channels = 16
        layers: list[nn.Module] = [convolution(image_shape[0], channels)]
        for wider, stride in ((16 * width, 1), (32 * width, 2), (64 * width, 2)):
            for block in range(n):
                layers.append(WideBlock(channels, wider, stride if block == 0 else 1, dropout))
                channels = wider
        super().__init__(*layers, *activated(channels), GlobalAverage())
        self.features = channels


class WideBlock(nn.Module):
    """Batch norm, ReLU, convolution, batch norm, ReLU, dropout, convolution; and what came in is added.

    Where the width changes, a 1x1 convolution of the first activation is added instead.
    """

    def __init__(self, channels: int, width: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.activation = nn.Sequential(*activated(channels))
        self.residual = nn.Sequential(
            convolution(channels, width, stride=stride),
            *activated(width),
            Dropout(dropout),
            convolution(width, width),
        )
        self.shortcut = None if channels == width else convolution(channels, width, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        activated: Tensor = self.activation(x)
        shortcut: Tensor = x if self.shortcut is None else self.shortcut(activated)
        residual: Tensor = self.residual(activated)
        return residual.add_(shortcut)


wrn_40_2 = WideResNet
wrn_16_2 = partial(WideResNet, depth=16, width=2, dropout=0.0)
wrn_22_10 = partial(WideResNet, depth=22, width=10, dropout=0.0)
wrn_28_10 = partial(WideResNet, depth=28, width=10, dropout=0.0)
wrn_40_4 = partial(WideResNet, depth=40, width=4, dropout=0.0)
