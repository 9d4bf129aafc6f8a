"""Accuracy under attack: images changed by at most epsilon in every pixel (L-infinity) so as to be misread.

An attack climbs an objective. Cross-entropy on the raw logits alone flatters models whose logits are large:
once the softmax is exactly one-hot in float32 its gradient is exactly zero, and the attack stands still. The
other objectives do not depend on the logits' scale; what counts is the minimum over all of them, image by
image, and how often each had no gradient is reported.

Epsilon is in units of 1/255, one step of an 8-bit pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from workloads.evaluation.attack_objectives import OBJECTIVES

Logits = Callable[[Tensor], Tensor]
"""Pixels, float32 in [0, 1], [batch, channels, height, width] -> float [batch, classes], differentiable, in
evaluation mode: no image may change what is said of another."""

SUSPECT = 0.01
"""Share of attacked images without a gradient, above which an objective's accuracy is not to be believed."""


@dataclass(frozen=True)
class Attacked:
    """What an attack made of a set of images."""

    pixels: Tensor
    """Float32 in [0, 1], [N, channels, height, width]; an image misclassified already is unchanged."""
    logits: Tensor
    """Of these pixels, float32 [N, classes]."""
    broken: Tensor
    """Whether their largest logit is of a wrong class, bool [N]; of equal logits the first class counts."""


@dataclass(frozen=True)
class AttackReport:
    """Robustness of a model: every accuracy is a share of all images, also those misclassified unchanged."""

    clean: float
    """Accuracy without an attack."""
    accuracy: Mapping[tuple[str, str, float], float]
    """Accuracy under one attack alone, by (attack, objective, epsilon). One that rises with epsilon is a sign
    that the attack fails."""
    worst: Mapping[float, float]
    """By epsilon, the share of images that survive every attack with every objective, at this epsilon and at
    every smaller one: what breaks an image at a smaller epsilon is allowed at a larger one."""
    flat: Mapping[str, float]
    """By objective, of the images classified correctly, the share at which its gradient is zero in every
    pixel. The others are not attacked: there the ratio of ``dlr`` is constant where the label comes third."""
    adversarial_logits: Mapping[float, npt.NDArray[np.float32]]
    """By epsilon, [N, classes]: of each image the logits of the first example found, at most that far away,
    that is misclassified; of a survivor those of the last example of the last attack with the first
    objective."""

    @property
    def masking_suspected(self) -> tuple[str, ...]:
        """Objectives under which more than 1 % of the images to attack have no gradient to follow."""
        return tuple(objective for objective, share in self.flat.items() if share > SUSPECT)


def fgsm(
    logits: Logits, images: Tensor, labels: Tensor, *, epsilon: float, objective: str = "ce", batch: int = 64
) -> Attacked:
    """Fast gradient sign method: one step of epsilon along the sign of the objective's gradient.

    Args:
        logits: the model, :data:`Logits`.
        images: uint8 [N, channels, height, width], on the model's device.
        labels: class indices, int64 [N], on the same device.
        epsilon: largest change of a pixel, > 0, in 1/255.
        objective: ``ce``: cross-entropy of the logits as they are, in float32. ``scaled_ce``: cross-entropy
            of 10 Z/||Z||. ``margin``: largest other logit minus the label's (Carlini and Wagner). ``dlr``:
            that margin over the distance from the largest to the third largest logit, of three or more
            classes (Croce and Hein).
        batch: images in one pass.
    Returns: the changed images, their logits, and which are misclassified.
    Raises: ValueError for arguments out of range, or logits or gradients that are not finite.
    Source: Goodfellow et al. 2015 (arXiv 1412.6572).
    Differs from source: an image that is misclassified already is left as it is.
    """
    return _attacked(logits, images, labels, objective, epsilon, None, 1, epsilon, batch)


def pgd(
    logits: Logits,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    seed: int,
    objective: str = "ce",
    steps: int = 20,
    step_size: float | None = None,
    batch: int = 64,
) -> Attacked:
    """Projected gradient descent: steps along the sign of the gradient, from a random point, within epsilon.

    An image is done with at its first misclassified point.

    Args:
        seed: of the starting points, uniform within epsilon, drawn for all images at once on the CPU: they
            depend neither on ``batch`` nor on the device.
        steps: number of steps, >= 1.
        step_size: in 1/255; None: 2.5 epsilon / steps.
        logits, images, labels, epsilon, objective, batch: as :func:`fgsm`.
    Returns: as :func:`fgsm`; independent of ``batch`` but for the rounding of the model itself.
    Raises: ValueError as :func:`fgsm`.
    Source: Madry et al. 2018 (arXiv 1706.06083).
    Differs from source: an image is broken if any point on the way is misclassified, the image itself
        included, where the source looks at the last point alone.
    """
    if steps < 1:
        raise ValueError(f"steps must be >= 1; got {steps}")
    start = torch.rand(images.shape, generator=torch.Generator().manual_seed(seed)) * 2.0 - 1.0
    size = 2.5 * epsilon / steps if step_size is None else step_size
    return _attacked(logits, images, labels, objective, epsilon, start, steps, size, batch)


def robust_accuracy(
    logits: Logits,
    images: Tensor,
    labels: Tensor,
    *,
    epsilons: Sequence[float],
    attacks: Sequence[str],
    objectives: Sequence[str],
    steps: int,
    seed: int,
    batch: int = 64,
) -> AttackReport:
    """Accuracy under every attack with every objective at every epsilon, and under all of them together.

    Args:
        epsilons: each > 0, in 1/255, no two the same.
        attacks: ``fgsm``, ``pgd``.
        objectives: names as :func:`fgsm`; the first also gives the logits of images that survive.
        steps: of ``pgd``.
        seed: of ``pgd``, the same for every objective and epsilon.
        logits, images, labels, batch: as :func:`fgsm`.
    Returns: accuracies, and how far each objective can be believed.
    Raises: ValueError as :func:`pgd`, or for unknown, repeated or missing names or epsilons.
    Source: the minimum over attacks: Croce and Hein 2020 (arXiv 2003.01690).
    """
    for what, values, known in (
        ("attacks", attacks, ("fgsm", "pgd")),
        ("objectives", objectives, tuple(OBJECTIVES)),
        ("epsilons", epsilons, epsilons),
    ):
        if not values or len(set(values)) < len(values) or not set(values) <= set(known):
            among = "" if known is values else f" of {', '.join(map(str, known))}"
            raise ValueError(f"{what} must be one or more{among}, each once; got {list(values)}")
    run: dict[str, Callable[..., Attacked]] = {"fgsm": fgsm, "pgd": partial(pgd, seed=seed, steps=steps)}
    flat = {each: _flatshare(logits, images, labels, each, batch) for each in objectives}
    unchanged = _attacked(logits, images, labels, objectives[0], 1.0, None, 0, 0.0, batch)
    broken, kept = unchanged.broken.clone(), unchanged.logits.clone()
    accuracy: dict[tuple[str, str, float], float] = {}
    worst: dict[float, float] = {}
    adversarial: dict[float, npt.NDArray[np.float32]] = {}
    for epsilon in sorted(epsilons):
        for attack in attacks:
            for objective in objectives:
                found = run[attack](logits, images, labels, epsilon=epsilon, objective=objective, batch=batch)
                accuracy[attack, objective, epsilon] = share(~found.broken)
                new = found.broken & ~broken
                kept[new] = found.logits[new]
                broken |= found.broken
                if objective == objectives[0]:
                    last = found.logits
        worst[epsilon] = share(~broken)
        adversarial[epsilon] = torch.where(broken[:, None], kept, last).cpu().numpy()
    return AttackReport(share(~unchanged.broken), accuracy, worst, flat, adversarial)


def _attacked(
    logits: Logits,
    images: Tensor,
    labels: Tensor,
    objective: str,
    epsilon: float,
    start: Tensor | None,
    steps: int,
    step_size: float,
    batch: int,
) -> Attacked:
    """All batches of an attack from ``start``, in -1..1 of epsilon; None: from the images themselves."""
    pixels = checked(images, labels, epsilon, batch)
    if steps and not step_size > 0.0:
        raise ValueError(f"a step size must be > 0; got {step_size}")
    if objective not in OBJECTIVES:
        raise ValueError(f"an objective must be one of {', '.join(OBJECTIVES)}; got {objective!r}")
    pieces = []
    for first in range(0, len(pixels), batch):
        part = slice(first, first + batch)
        offset = 0.0 if start is None else start[part].to(images.device) * (epsilon / 255.0)
        search = partial(_search, logits, pixels[part], labels[part], OBJECTIVES[objective])
        pieces.append(search(epsilon / 255.0, offset, steps, step_size / 255.0))
    return Attacked(*map(torch.cat, zip(*pieces, strict=True)))


def _search(
    logits: Logits,
    pixels: Tensor,
    labels: Tensor,
    objective: Callable[[Tensor, Tensor], Tensor],
    radius: float,
    offset: Tensor | float,
    steps: int,
    step: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """What :class:`Attacked` holds, of one batch."""
    low, high = (pixels - radius).clamp(min=0.0), (pixels + radius).clamp(max=1.0)
    with torch.no_grad():
        Z = answer(logits, pixels)
    found, said, broken = pixels, Z, Z.argmax(dim=1) != labels
    alive = (~broken).nonzero().squeeze(1)
    point = (pixels + offset).clamp(low, high)[alive]
    for taken in range(steps + 1 if steps else 0):
        if not len(alive):
            break
        if taken < steps:
            Z, gradient = _gradient(logits, point, labels[alive], objective)
        else:
            with torch.no_grad():
                Z = answer(logits, point)
        hit = Z.argmax(dim=1) != labels[alive]
        found[alive], said[alive], broken[alive] = point, Z, hit
        if taken < steps:
            moved = point + step * gradient.sign()
            point = moved.clamp(low[alive], high[alive])[~hit]
            alive = alive[~hit]
    return found, said, broken


def _gradient(
    logits: Logits, pixels: Tensor, labels: Tensor, objective: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """The logits, and the gradient of the objective with respect to the pixels."""
    point = pixels.detach().clone().requires_grad_()
    with torch.enable_grad():
        Z = answer(logits, point)
        (gradient,) = torch.autograd.grad(objective(Z, labels).sum(), point)
    if not gradient.isfinite().all():
        raise ValueError("the gradient of an objective must be finite; got NaN or infinity")
    return Z.detach(), gradient


def _flatshare(logits: Logits, images: Tensor, labels: Tensor, objective: str, batch: int) -> float:
    flat, correct = 0, 0
    for pixels, own in batches(checked(images, labels, 1.0, batch), labels, batch):
        Z, gradient = _gradient(logits, pixels, own, OBJECTIVES[objective])
        attacked = Z.argmax(dim=1) == own
        flat += int(((gradient == 0.0).flatten(1).all(dim=1) & attacked).sum())
        correct += int(attacked.sum())
    return flat / max(correct, 1)


def batches(pixels: Tensor, labels: Tensor, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images and labels, so many at a time."""
    for first in range(0, len(pixels), batch):
        yield pixels[first : first + batch], labels[first : first + batch]


def answer(logits: Logits, pixels: Tensor) -> Tensor:
    """The logits, float32 and finite."""
    Z = logits(pixels).float()
    if not Z.isfinite().all():
        raise ValueError("logits must be finite; got NaN or infinity")
    return Z


def share(kept: Tensor) -> float:
    """The true ones among all, 0..1."""
    return int(kept.sum()) / len(kept)


def checked(images: Tensor, labels: Tensor, epsilon: float, batch: int) -> Tensor:
    """The images as float32 in [0, 1]."""
    if images.dtype != torch.uint8 or images.ndim != 4 or not len(images):
        raise ValueError(
            "images must be uint8 [one or more, channels, height, width]; "
            f"got {images.dtype} {list(images.shape)}"
        )
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"labels must be int64 [{len(images)}], one an image; got {labels.dtype} {list(labels.shape)}"
        )
    if not (0.0 < epsilon <= 255.0):
        raise ValueError(f"epsilon must be within 0..255, above 0 (1/255 each); got {epsilon}")
    if batch < 1:
        raise ValueError(f"a batch must have 1 image or more; got {batch}")
    if labels.min() < 0:
        raise ValueError(f"labels must be >= 0; got {int(labels.min())}")
    return images.float() / 255.0
