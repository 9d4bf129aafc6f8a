"""Rejection scores that are fitted: to the features of the training images, or to the last layer.

All are computed in float64, and the score of an image does not depend on the others it comes with. ReAct,
ASH and SCALE are pytorch-ood's (optional, ``pip install "orchestrate-losses[detectors]"``), which compute in
the precision of what they are given; the others are written here, because pytorch-ood rounds them to float32
(Mahalanobis, RMD, ViM, fDBD), lets them saturate (GEN) or needs a linear head without cause (SHE).
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

from workloads.evaluation.detectors_fit import (
    Whitening,
    blocks,
    checked_features,
    class_moments,
    scaled_head,
    training_images,
    training_labels,
    whitening,
)
from workloads.evaluation.detectors_shaping import ASH, SCALE, ReAct
from workloads.evaluation.evidence import DoesNotFit, Evidence, Floats, Head

__all__ = ["ASH", "FDBD", "GEN", "RMD", "SCALE", "SHE", "Mahalanobis", "ReAct", "ViM"]

_SMALLEST_RESIDUAL = 1e-6
"""ViM: a share of the features' length that float32 features cannot tell from zero."""
_SMALLEST_DISTANCE = 1e-8
"""fDBD: an image on the training mean would divide by zero; pytorch-ood's value."""


class Mahalanobis:
    """Minus the squared Mahalanobis distance to the nearest class mean, one covariance for all classes.

    Any head fits. Classes without a training image have no mean and are passed over. Where the covariance
    is singular (fewer images than features, constant features) its pseudo-inverse stands for the inverse:
    directions in which the training images do not vary count nothing.

    Source: Lee et al. 2018 (arXiv 1807.03888), eqs. 1 and 2, on the penultimate features alone.
    Differs from pytorch-ood: pytorch-ood sums and inverts in float32 and adds 1e-6 to the diagonal of the sum
        over images, which lets a constant feature outweigh all others; half the distance there.
    """

    def __init__(self) -> None:
        self._within: Whitening | None = None

    def fit(self, train: Evidence | None, head: Head) -> None:
        """Means and covariance. Raises: DoesNotFit without training images, labels or varying features."""
        moments = class_moments(training_images(train, "Mahalanobis"), "Mahalanobis")
        self._within = whitening(moments.mean, moments.within, "Mahalanobis")
        self._centres = self._within(moments.means)

    def __call__(self, evidence: Evidence) -> Floats:
        """-min_c (x - mu_c)' Sigma^-1 (x - mu_c), float64 [images], <= 0."""
        assert self._within is not None, "fit comes first"
        x = self._within(_float64(evidence))
        scores: Floats = -cdist(x, self._centres, "sqeuclidean").min(axis=1)
        return scores


class RMD(Mahalanobis):
    """Relative Mahalanobis distance: what one Gaussian for all classes explains is taken off.

    Any head fits; classes without images and singular covariances are treated as by :class:`Mahalanobis`,
    each of the two covariances by itself.

    Source: Ren et al. 2021 (arXiv 2106.09022).
    Differs from pytorch-ood: as :class:`Mahalanobis`; there both covariances are N times larger.
    """

    def fit(self, train: Evidence | None, head: Head) -> None:
        """Means and covariances. Raises: DoesNotFit without training images, labels or varying features."""
        moments = class_moments(training_images(train, "RMD"), "RMD")
        self._within = whitening(moments.mean, moments.within, "RMD")
        self._centres = self._within(moments.means)
        self._all = whitening(moments.mean, moments.within + moments.between, "RMD")

    def __call__(self, evidence: Evidence) -> Floats:
        """-min_c (d_c - d_0), d_0 the distance to the Gaussian of all images, float64 [images]."""
        nearest = super().__call__(evidence)
        scores: Floats = nearest + (self._all(_float64(evidence)) ** 2).sum(axis=1)
        return scores


class ViM:
    """Virtual-logit matching: energy of the logits minus alpha times the residual of the features.

    The residual is what the d principal directions of the training features about u = -W^+ b leave; alpha
    makes it as large, on the training images, as their mean largest logit.

    Args:
        d: principal directions, 1 to features - 1; 0 chooses by the number D of features: 1000 for
            D >= 2048, 512 for D >= 768 (the authors' values), else half of D (256 for the 512 of a ResNet-18,
            as in OpenOOD).
    Raises: ValueError where d < 0.
    Source: Wang et al. 2022 (arXiv 2203.10807), sec. 4; public code of its authors.
    Differs from source: singular values of W at the rounding of float32 count as zero in W^+.
    Differs from pytorch-ood: float64 throughout (there float32); d > D is refused, not replaced.
    """

    def __init__(self, *, d: int = 0) -> None:
        if d < 0:
            raise ValueError(f"d must be >= 0; got {d!r}")
        self.d = d
        self._alpha: float | None = None

    def fit(self, train: Evidence | None, head: Head) -> None:
        """u, the residual directions and alpha.

        Raises: DoesNotFit without training images; for a head whose XW' + b is not the logits; where d >= D;
            where the training features have no residual; where their mean largest logit is not positive.
        """
        train = training_images(train, "ViM")
        W, b = scaled_head(train, head, "ViM")
        X, D = np.asarray(train.features), W.shape[1]
        d = self.d or (1000 if D >= 2048 else 512 if D >= 768 else D // 2)
        if not 0 < d < D:
            raise DoesNotFit(f"ViM keeps 1 to {D - 1} of these {D} features' directions; got d = {d}")
        self._u: Floats = -np.linalg.pinv(W, rcond=max(W.shape) * np.finfo(np.float32).eps) @ b
        spread = np.zeros((D, D))
        for rows in blocks(X):
            spread += (rows - self._u).T @ (rows - self._u)
        self._residual: Floats = np.linalg.eigh(spread)[1][:, : D - d]
        residual = sum(float(self._norms(rows).sum()) for rows in blocks(X)) / len(X)
        length = sum(float(np.linalg.norm(rows - self._u, axis=1).sum()) for rows in blocks(X)) / len(X)
        largest = float(train.Z.max(axis=1).mean())
        if residual <= _SMALLEST_RESIDUAL * length:
            raise DoesNotFit(f"ViM needs training features that {d} directions do not explain; these do")
        if largest <= 0.0:
            raise DoesNotFit(
                f"ViM scales by the mean largest logit, which must be > 0; got {largest:.3g} on the "
                "training images"
            )
        self._alpha = largest / residual

    def __call__(self, evidence: Evidence) -> Floats:
        """logsumexp(Z) - alpha |residual|, float64 [images]."""
        assert self._alpha is not None, "fit comes first"
        scores: Floats = logsumexp(evidence.Z, axis=1) - self._alpha * self._norms(_float64(evidence))
        return scores

    def _norms(self, features: Floats) -> Floats:
        norms: Floats = np.linalg.norm((features - self._u) @ self._residual, axis=1)
        return norms


class GEN:
    """Generalised entropy of the M largest probabilities, as -log G.

    G = sum_j p_j^gamma (1 - p_j)^gamma. Any head fits; nothing is learned.

    Args:
        gamma: exponent, > 0.
        M: number of probabilities; all of them where there are fewer classes.
    Raises: ValueError where gamma <= 0 or M < 1.
    Source: Liu et al. 2023 (CVPR, "GEN").
    Differs from source: -log G, a strictly increasing function of the score -G that does not saturate.
    Differs from pytorch-ood: there p is clamped to 1e-7..1 - 1e-7, which ties all confident images.
    """

    def __init__(self, *, gamma: float = 0.1, M: int = 100) -> None:
        if not gamma > 0.0:
            raise ValueError(f"gamma must be > 0; got {gamma!r}")
        if M < 1:
            raise ValueError(f"M must be >= 1; got {M!r}")
        self.gamma, self.M = gamma, M

    def fit(self, train: Evidence | None, head: Head) -> None:
        """Nothing to learn."""

    def __call__(self, evidence: Evidence) -> Floats:
        """-log G, float64 [images]."""
        Z = -np.sort(-evidence.Z, axis=1)
        total = logsumexp(Z, axis=1)
        log_p = Z - total[:, None]
        # Of the largest, 1 - p is the sum of the others, which does not cancel; all others are at most 1/2.
        log_rest = logsumexp(Z[:, 1:], axis=1) - total
        log_q = np.concatenate([log_rest[:, None], np.log1p(-np.exp(log_p[:, 1:]))], axis=1)
        terms = self.gamma * (log_p + log_q)[:, : self.M]
        scores: Floats = -logsumexp(terms, axis=1)
        return scores


class FDBD:
    """Distance to the decision boundaries, averaged over the other classes, per distance to the mean.

    Source: Liu and Qin 2024 (arXiv 2312.11536).
    Differs from source: a distance to the training mean below 1e-8 counts as 1e-8.
    Differs from pytorch-ood: float64 (there float32).
    """

    def __init__(self) -> None:
        self._mean: Floats | None = None

    def fit(self, train: Evidence | None, head: Head) -> None:
        """The training mean and the lengths |w_i - w_j|.

        Raises: DoesNotFit without training images; for a head whose XW' + b is not the logits; where two
            classes have the same weights, so that no boundary lies between them.
        """
        train = training_images(train, "FDBD")
        W, _ = scaled_head(train, head, "FDBD")
        self._gaps = cdist(W, W)
        np.fill_diagonal(self._gaps, 1.0)
        if not self._gaps.all():
            i, j = np.argwhere(self._gaps == 0.0)[0]
            raise DoesNotFit(f"FDBD needs a boundary between any two classes; {i} and {j} have equal weights")
        self._mean = np.asarray(train.features).mean(axis=0, dtype=np.float64)

    def __call__(self, evidence: Evidence) -> Floats:
        """mean_{c != y} (z_y - z_c) / |w_y - w_c| / |x - mean|, y the predicted class, float64 [images]."""
        assert self._mean is not None, "fit comes first"
        Z = evidence.Z
        margins = Z.max(axis=1, keepdims=True) - Z
        boundary = (margins / self._gaps[Z.argmax(axis=1)]).sum(axis=1) / (Z.shape[1] - 1)
        distance = np.linalg.norm(_float64(evidence) - self._mean, axis=1)
        scores: Floats = boundary / np.maximum(distance, _SMALLEST_DISTANCE)
        return scores


class SHE:
    """Simplified Hopfield energy: inner product with the stored pattern of the predicted class.

    The pattern of a class is the mean feature of its correctly classified training images. Any head fits.

    Source: Zhang et al. 2023 (ICLR, "modern Hopfield energy").
    Differs from pytorch-ood: the predicted class is that of the logits (there of a head, run anew).
    """

    def __init__(self) -> None:
        self._patterns: Floats | None = None

    def fit(self, train: Evidence | None, head: Head) -> None:
        """The patterns.

        Raises: DoesNotFit without training images or labels, or where a class has no correct image.
        """
        train = training_images(train, "SHE")
        labels = training_labels(train, "SHE")
        correct = train.Z.argmax(axis=1) == labels
        X, C = np.asarray(train.features), train.Z.shape[1]
        missing = np.setdiff1d(np.arange(C), labels[correct])
        if len(missing):
            raise DoesNotFit(
                "SHE needs a correctly classified training image of every class; "
                f"got none of {len(missing)} of {C} classes, the first of them {missing[0]}"
            )
        self._patterns = np.stack(
            [X[correct & (labels == c)].mean(axis=0, dtype=np.float64) for c in range(C)]
        )

    def __call__(self, evidence: Evidence) -> Floats:
        """x' S_y, y the predicted class, float64 [images]."""
        assert self._patterns is not None, "fit comes first"
        patterns = self._patterns[evidence.Z.argmax(axis=1)]
        scores: Floats = np.einsum("id,id->i", _float64(evidence), patterns)
        return scores


def _float64(evidence: Evidence) -> Floats:
    X: Floats = checked_features(evidence).astype(np.float64)
    return X
