"""What every model is: images in, logits and penultimate features out."""

from __future__ import annotations

from torch import Tensor, nn


class Classifier(nn.Module):
    """A trunk that makes features, and a linear head on them.

    The head is an attribute of its own because scores of the feature space need its weight [classes,
    features] and bias [classes].
    """

    def __init__(self, trunk: nn.Module, features: int, num_classes: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.Linear(features, num_classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [batch, classes] and features [batch, features] of normalised images [batch, C, H, W]."""
        features: Tensor = self.trunk(images)
        return self.head(features), features
