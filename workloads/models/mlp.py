"""A multi-layer perceptron."""

from __future__ import annotations

from torch import nn

from workloads.models.dropout import Dropout
from workloads.models.rules import fits, probability, whole


class MLP(nn.Sequential):
    """``depth`` times linear, ReLU, dropout: [batch, C, H, W] to [batch, CHW] and to [batch, hidden].

    Initialisation: weights He normal (fan in, gain of ReLU); biases 0.

    Args:
        image_shape: channels, height, width.
        hidden: width of every layer.
        depth: layers before the head.
        dropout: probability of zero after each layer.
    Raises: ValueError where a parameter is wrong.
    Source: standard.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], hidden: int = 256, depth: int = 2, dropout: float = 0.0
    ) -> None:
        whole("mlp", "hidden", hidden, 1)
        whole("mlp", "depth", depth, 1)
        probability("mlp", "dropout", dropout)
        fits("mlp", image_shape, 1)
        channels, height, across = image_shape
        layers: list[nn.Module] = [nn.Flatten()]
        width = channels * height * across
        for _ in range(depth):
            linear = nn.Linear(width, hidden)
            nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
            nn.init.zeros_(linear.bias)
            layers += [linear, nn.ReLU(inplace=True), Dropout(dropout)]
            width = hidden
        super().__init__(*layers)
        self.features = hidden
