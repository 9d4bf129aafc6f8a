"""Linear models, whose robust accuracy is known in closed form, and images for them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[np.float64]
Logits = Callable[[Tensor], Tensor]

SHAPE = (3, 4, 4)


def draw_images(n: int, low: int = 60, high: int = 200) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    return torch.randint(low, high, (n, *SHAPE), dtype=torch.uint8, generator=generator)


def draw_weights(classes: int) -> Array:
    return np.random.default_rng(classes).normal(size=(classes, 48))


def linear_model(W: Array, scale: float = 1.0) -> Logits:
    weight = torch.tensor(W)

    def answer(pixels: Tensor) -> Tensor:
        assert pixels.dtype == torch.float32
        return (scale * ((pixels.flatten(1).double() - 0.5) @ weight.T)).float()

    return answer


def predictions(logits: Logits, images: Tensor, wrong: int = 0) -> Tensor:
    """The predictions, the first few turned to another class."""
    Z = logits(images.float() / 255.0)
    labels = Z.argmax(dim=1)
    labels[:wrong] = (labels[:wrong] + 1) % Z.shape[1]
    return labels


def distance_to_break(W: Array, images: Tensor, labels: Tensor) -> Array:
    """The epsilon, in 1/255, at which a linear model's label loses to the first other class: the margin over
    the L1 norm of the difference of the two rows."""
    x = images.numpy().reshape(len(images), -1) / 255.0 - 0.5
    distances = []
    for row, y in zip(x, labels.tolist(), strict=True):
        others = [j for j in range(len(W)) if j != y]
        distances.append(min((W[y] - W[j]) @ row / np.abs(W[y] - W[j]).sum() for j in others))
    return 255.0 * np.array(distances)
