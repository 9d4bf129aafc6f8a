"""Rejection scores that first push the image towards a surer answer: ODIN, and the score of GODIN heads.

An in-distribution image is said to answer a small push more strongly. Both take the sign of one gradient at
the image itself, which does not depend on the size of the push: sizes are compared at the price of one
backward pass, and one forward pass each.

The space of ``epsilon``: that of images divided by ``std``, so that a channel's pixels, in [0, 1], move by
``epsilon * std``. The code of ODIN's authors divides the sign by ``std`` in that space, which moves *pixels*
by ``epsilon``: their numbers (0.0014) are had with a ``std`` of 1 for every channel. Pixels are not clipped
to [0, 1], as there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from workloads.evaluation.ood import noise_metrics
from workloads.evaluation.scores import score

Logits = Callable[[Tensor], Tensor]
"""Pixels, float32 in [0, 1], [batch, channels, height, width] -> float [batch, classes], differentiable, in
evaluation mode: no image may change what is said of another."""

ODIN_EPSILON = 0.0014
"""What ODIN's authors use for CIFAR with a DenseNet, in pixels."""

_Floats = npt.NDArray[np.float64]


def odin(
    logits: Logits,
    images: Tensor,
    *,
    epsilon: float,
    T: float = 1000.0,
    std: Sequence[float],
    batch: int = 64,
) -> _Floats:
    """ODIN: the maximum softmax probability at temperature T, after a step towards the predicted class.

    x~ = x - epsilon sign(d CE(Z/T, y^)/dx) with y^ the predicted class and sign(0) = +1, and the score is
    -log(1 - p_max) of softmax(Z(x~)/T) in float64: at T = 1000 every p_max is 1/C plus some thousandths, and
    float32 would tie images that differ.

    Args:
        logits: the model, :data:`Logits`.
        images: uint8 [N, channels, height, width], on the model's device.
        epsilon: size of the step, >= 0, in units of ``std`` (see the module).
        T: temperature, > 0.
        std: the size of one unit of ``epsilon``, in pixels of [0, 1], one a channel.
        batch: images in one pass; the scores are the same for every size, but for the model's own rounding.
    Returns: float64 [N], higher = more in-distribution.
    Raises: ValueError for arguments out of range, and for logits or a gradient that are not finite.
    Source: Liang et al. 2018 (arXiv 1706.02690), eq. 1 and 2, and its authors' code.
    Differs from source: (1) the step is ``epsilon * std`` pixels, not ``epsilon`` (see the module); (2) a
        strictly increasing function of p_max, so that every rejection metric is the same; (3) the sign is
        taken of the cross-entropy's gradient divided by (1 - p)/T, which is > 0: the same sign, also where p
        rounds to 1 and the gradient itself to zero.
    """
    return _odin(logits, images, [epsilon], T, std, batch)[0]


def tune_odin(
    logits: Logits,
    validation: Tensor,
    noise: Mapping[str, Tensor],
    candidates: Sequence[float],
    *,
    T: float = 1000.0,
    std: Sequence[float],
    batch: int = 64,
) -> float:
    """The step of :func:`odin` that best tells validation images from noise.

    Args:
        validation: in-distribution images, not of the test set, uint8 [N, channels, height, width].
        noise: the noise sets, by name, each weighing the same; uint8, shaped as ``validation``.
        candidates: one or more sizes of the step.
        logits, T, std, batch: as :func:`odin`.
    Returns: the candidate with the smallest mean FPR95 (ID-positive); of equals the one with the largest
        mean AUROC, then the nearest to 0.0014, then the smallest.
    Raises: ValueError as :func:`odin`, without candidates, or without noise sets.
    Differs from source: Liang et al. tune on the OOD sets that they test on.
    """
    _check_candidates(candidates)
    known = _odin(logits, validation, candidates, T, std, batch)
    unknown = {name: _odin(logits, images, candidates, T, std, batch) for name, images in noise.items()}

    def rank(k: int) -> tuple[float, float, float, float]:
        metrics = noise_metrics(known[k], {name: scores[k] for name, scores in unknown.items()})
        # Rounded, because the mean of the same shares in another order may differ in its last digit.
        fpr95, auroc = (round(metrics[f"noise/{name}"], 12) for name in ("fpr95", "auroc"))
        return fpr95, -auroc, abs(candidates[k] - ODIN_EPSILON), candidates[k]

    return candidates[min(range(len(candidates)), key=rank)]


def godin(
    similarity: Logits,
    images: Tensor,
    *,
    epsilon: float,
    std: Sequence[float],
    batch: int = 64,
) -> _Floats:
    """The score of a GODIN head: max h(x~), x~ = x + epsilon sign(d max h/dx), sign(0) = +1.

    Args:
        similarity: pixels -> h, [batch, classes], otherwise as :data:`Logits`.
        images, epsilon, std, batch: as :func:`odin`.
    Returns: float64 [N], higher = more in-distribution.
    Raises: ValueError as :func:`odin`.
    Source: Hsu et al. 2020 (arXiv 2002.11297), with h as the score.
    Differs from source: nothing in the formula; the space of epsilon is stated by the module.
    """
    return _godin(similarity, images, [epsilon], std, batch)[0]


def tune_godin(
    similarity: Logits,
    validation: Tensor,
    candidates: Sequence[float],
    *,
    std: Sequence[float],
    batch: int = 64,
) -> float:
    """The step of :func:`godin` that raises the validation images' scores most; no other images are needed.

    Args:
        validation: in-distribution images, not of the test set, uint8 [N, channels, height, width].
        candidates: one or more sizes of the step.
        similarity, std, batch: as :func:`godin`.
    Returns: the candidate with the largest sum of scores; of equals the smallest.
    Raises: ValueError as :func:`odin`, or without candidates.
    Source: Hsu et al. 2020, which takes 0.0025, 0.005, 0.01, 0.02, 0.04 and 0.08.
    """
    _check_candidates(candidates)
    totals = [float(scores.sum()) for scores in _godin(similarity, validation, candidates, std, batch)]
    return max(zip(totals, candidates, strict=True), key=lambda each: (each[0], -each[1]))[1]


def _odin(
    logits: Logits, images: Tensor, epsilons: Sequence[float], T: float, std: Sequence[float], batch: int
) -> list[_Floats]:
    if not (T > 0.0 and np.isfinite(T)):
        raise ValueError(f"a temperature must be > 0; got {T}")

    def doubt(pixels: Tensor) -> Tensor:
        Z = logits(pixels).double() / T
        predicted = Z.argmax(dim=1, keepdim=True)
        others = Z.scatter(1, predicted, -torch.inf).logsumexp(dim=1)
        return others - Z.gather(1, predicted).squeeze(1)

    def scores(pixels: Tensor) -> _Floats:
        return score("msp", logits(pixels).double().cpu().numpy() / T)

    return _stepped(doubt, scores, images, epsilons, -1.0, std, batch)


def _godin(
    similarity: Logits, images: Tensor, epsilons: Sequence[float], std: Sequence[float], batch: int
) -> list[_Floats]:
    def largest(pixels: Tensor) -> Tensor:
        # Not amax, whose gradient is shared among equals: the prediction is one class.
        return similarity(pixels).double().max(dim=1).values

    def scores(pixels: Tensor) -> _Floats:
        return score("mls", similarity(pixels).double().cpu().numpy())

    return _stepped(largest, scores, images, epsilons, 1.0, std, batch)


def _stepped(
    objective: Callable[[Tensor], Tensor],
    scores: Callable[[Tensor], _Floats],
    images: Tensor,
    epsilons: Sequence[float],
    direction: float,
    std: Sequence[float],
    batch: int,
) -> list[_Floats]:
    """The scores, [N], after a step of each size along (+1) or against (-1) the objective."""
    _check(images, epsilons, std, batch)
    unit = torch.tensor(std, dtype=torch.float32, device=images.device).reshape(1, -1, 1, 1)
    columns = []
    for start in range(0, len(images), batch):
        pixels = (images[start : start + batch].float() / 255.0).requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(objective(pixels).sum(), pixels)
        if not gradient.isfinite().all():
            raise ValueError("the gradient of the model's answer must be finite; got NaN or infinity")
        step = torch.where(gradient >= 0.0, direction, -direction) * unit
        with torch.no_grad():
            columns.append([scores(pixels + epsilon * step) for epsilon in epsilons])
    return [np.concatenate(column) for column in zip(*columns, strict=True)]


def _check(images: Tensor, epsilons: Sequence[float], std: Sequence[float], batch: int) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or not len(images):
        raise ValueError(
            "images must be uint8 [one or more, channels, height, width]; "
            f"got {images.dtype} {list(images.shape)}"
        )
    if len(std) != images.shape[1] or not all(each > 0.0 and np.isfinite(each) for each in std):
        raise ValueError(f"std must have one number > 0 for each of {images.shape[1]} channels; got {std}")
    for epsilon in epsilons:
        if not (epsilon >= 0.0 and np.isfinite(epsilon)):
            raise ValueError(f"epsilon must be >= 0; got {epsilon}")
    if batch < 1:
        raise ValueError(f"a batch must have 1 image or more; got {batch}")


def _check_candidates(candidates: Sequence[float]) -> None:
    if not candidates:
        raise ValueError("a step is chosen among one candidate or more; got none")
