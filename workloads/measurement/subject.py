"""The trained model under measurement: what it says of images, and the same as a differentiable function."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from workloads.contract import Precision
from workloads.evaluation.evidence import Evidence, Head, Labels
from workloads.head import HeadOutput
from workloads.losses.base import Loss
from workloads.models.base import Classifier
from workloads.training.batches import Normaliser
from workloads.training.inference import as_tensor, predict


@dataclass(frozen=True)
class Subject:
    """A model with what it takes to ask it."""

    model: Classifier
    loss: Loss
    normalise: Normaliser
    precision: Precision

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def evidence(self, images: npt.NDArray[np.uint8], labels: Labels | None = None) -> Evidence:
        """One pass over images uint8 [N, C, H, W]. A logit may be infinite or not a number."""
        said = predict(self.model, self.loss, self.normalise, images, self.precision)
        return Evidence(said.logits, said.features, labels, said.divisor)

    def head(self) -> Head:
        """The last layer in numbers."""
        head = self.model.head
        bias = None if head.bias is None else head.bias.detach().cpu().numpy().copy()
        return Head(self.loss.head.kind, head.weight.detach().cpu().numpy().copy(), bias)

    def head_parameters(self) -> dict[str, npt.NDArray[Any]]:
        """All that the last layer holds, by the names in its state."""
        state = self.model.head.state_dict()
        return {name: tensor.detach().cpu().numpy().copy() for name, tensor in state.items()}

    def tensor(self, images: npt.NDArray[np.uint8]) -> Tensor:
        return as_tensor(images).to(self.device)

    def logits(self, pixels: Tensor) -> Tensor:
        """``eval_logits`` [batch, classes] of pixels in [0, 1], float [batch, C, H, W]; differentiable."""
        return self.loss.eval_logits(self._output(pixels))

    def similarity(self, pixels: Tensor) -> Tensor:
        """h of a GODIN head, [batch, classes], of pixels in [0, 1]; differentiable.

        Raises: ValueError for another head.
        """
        output = self._output(pixels)
        if output.divisor is None:
            raise ValueError("h(x) is of a GODIN head; this model has another")
        return output.logits * output.divisor

    @contextmanager
    def still(self) -> Iterator[None]:
        """The model in evaluation mode, its parameters without gradients, for the time of a block."""
        parameters = [p for p in (*self.model.parameters(), *self.loss.parameters()) if p.requires_grad]
        self.model.eval()
        self.loss.eval()
        for p in parameters:
            p.requires_grad_(False)
        try:
            yield
        finally:
            for p in parameters:
                p.requires_grad_(True)

    def _output(self, pixels: Tensor) -> HeadOutput:
        # In float32 whatever the training's precision: a gradient's sign means nothing in 16 bits.
        said: HeadOutput = self.model(self.normalise(pixels * 255.0))
        return said
