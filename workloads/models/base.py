"""What every model is: images in, what the loss needs out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

from torch import Tensor, nn

from workloads.head import HeadOutput, HeadSpec
from workloads.models.heads import Projector, build_head


class Trunk(Protocol):
    """An architecture without its last layer: a module from images to features."""

    features: int
    """Width of what it returns."""

    def __call__(self, images: Tensor) -> Tensor:
        """Normalised images [batch, C, H, W] to features [batch, features]."""


class Classifier(nn.Module):
    """A trunk that makes features, a projector where one is asked for, and the head that the loss needs.

    The head is an attribute of its own because scores of the feature space need its weights.
    """

    def __init__(
        self, trunk: Trunk, num_classes: int, head: HeadSpec | None = None, projector: int | None = None
    ) -> None:
        """A model of ``trunk``; ``projector`` is the projector's width, None: no projector."""
        super().__init__()
        self.trunk = cast(nn.Module, trunk)
        self.projector = None if projector is None else Projector(trunk.features, projector)
        width = trunk.features if projector is None else projector
        self.head = build_head(head or HeadSpec(), width, num_classes)

    def forward(self, images: Tensor) -> HeadOutput:
        """The head's output for normalised images [batch, C, H, W]; its features are the head's input."""
        features: Tensor = self.trunk(images)
        if self.projector is not None:
            features = self.projector(features)
        output: HeadOutput = self.head(features)
        return output

    def undecayed(self) -> Sequence[nn.Parameter]:
        """Parameters that the optimiser must not decay."""
        return self.head.undecayed()
