"""How features, class centres and classifier rows lie to each other: angles, neural collapse, logit norms."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_Floats = npt.NDArray[np.float64]
_Indices = npt.NDArray[np.int64]

_CANCELLED = 1e-12
"""A mean of unit vectors that is shorter has no direction, only rounding errors."""


@dataclass(frozen=True)
class Geometry:
    """Measures by name, and what the reader has to know of them."""

    metrics: dict[str, float]
    """A measure that the data leave undefined is absent."""
    notes: tuple[str, ...]
    """What was left out or is absent, and why."""


def etf_angle(classes: int) -> float:
    """The angle between any two directions of a simplex equiangular tight frame, radians.

    No arrangement of ``classes`` directions has a larger smallest angle: the target of ``w_inter``.

    Raises: ValueError for fewer than two classes.
    Source: Papyan, Han and Donoho 2020, eq. 1; 96.4 degrees for 10 classes.
    """
    if classes < 2:
        raise ValueError(f"an angle between classes needs two or more of them; got {classes!r}")
    return float(np.arccos(-1.0 / (classes - 1)))


def angles(features: npt.NDArray[Any], labels: npt.NDArray[Any], weight: npt.NDArray[Any]) -> Geometry:
    """Angles between class centres, classifier rows and images.

    The centre of a class is the mean of its features, each divided by its L2 norm.

    Args:
        features: the head's input X, [images, features]; ArcGrad's authors take the test images.
        labels: class indices, [images].
        weight: the head's W, [classes, features]; only the directions of its rows matter.
    Returns: means in radians, 0..pi, each pair of classes weighing the same:
        ``wc_intra``: between the centre and the classifier row of the same class;
        ``w_inter``: between the rows of two classes (:func:`etf_angle` where they spread evenly);
        ``c_inter``: between the centres of two classes, as the paper's text says;
        ``wc_inter``: between the centre of one class and the row of another, what the authors' code calls
            C-Inter;
        ``within_class``: between an image and the centre of its class, each image weighing the same.
        A class without a direction (no image, features that cancel, a row of zeros) is left out of the
        means that need it, and an image of zeros out of ``within_class``; notes name them.
    Raises: ValueError for empty, mismatched or not finite input, or fewer than two classes.
    Source: Wu and Wang 2020, "ArcGrad: angular gradient margin loss for classification", and its code.
    Differs from source: (1) an angle is 2 atan2(|u - v|, |u + v|) of unit vectors, which loses no digits
        near 0 and pi, where the arc cosine of a clamped dot product loses half; (2) the printed formula of
        C-Inter, which says the same as WC-Intra, is not used; (3) ``within_class`` is added.
    """
    X, y, W = _checked(features, labels, weight)
    classes = len(W)
    notes: list[str] = []
    image_norms, row_norms = np.linalg.norm(X, axis=1), np.linalg.norm(W, axis=1)
    visible = image_norms > 0.0
    if not visible.all():
        notes.append(f"angles: {(~visible).sum()} of {len(X)} images have features of zeros: left out")
    U, y = X[visible] / image_norms[visible, None], y[visible]
    rows = np.flatnonzero(row_norms > 0.0)
    R = W / np.where(row_norms > 0.0, row_norms, 1.0)[:, None]

    centres = np.zeros_like(W)
    for j, members in _by_class(y):
        centres[j] = U[members].mean(axis=0)
    centre_norms = np.linalg.norm(centres, axis=1)
    kept = np.flatnonzero(centre_norms > _CANCELLED)
    centres[kept] /= centre_norms[kept, None]
    counts = np.bincount(y, minlength=classes)
    _note(
        notes, "without a usable image, left out of the angles with its centre", np.flatnonzero(counts == 0)
    )
    cancelled = np.flatnonzero((counts > 0) & (centre_norms <= _CANCELLED))
    _note(notes, "with features that cancel, left out of the angles with its centre", cancelled)
    _note(
        notes,
        "with a classifier row of zeros, left out of the angles with it",
        np.flatnonzero(row_norms == 0),
    )

    own = [_angles_to(U[members], centres[j]) for j, members in _by_class(y) if j in kept]
    both = np.intersect1d(kept, rows)
    found: dict[str, _Floats] = {
        "wc_intra": _angles_to(R[both], centres[both]),
        "w_inter": _between(R, rows, R, rows),
        "c_inter": _between(centres, kept, centres, kept),
        "wc_inter": _between(centres, kept, R, rows),
        "within_class": np.concatenate([np.zeros(0), *own]),
    }
    notes += [f"{name}: absent, no angle is defined" for name, values in found.items() if not len(values)]
    return Geometry({name: float(np.mean(v)) for name, v in found.items() if len(v)}, tuple(notes))


def neural_collapse(
    features: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    weight: npt.NDArray[Any],
    bias: npt.NDArray[Any] | None = None,
) -> Geometry:
    """How far the last layer is from neural collapse; every measure is 0 where it is complete.

    With class means mu_c, their mean mu_G, m_c = mu_c - mu_G, Sigma_W the mean over images of
    (x - mu_c)(x - mu_c)' and Sigma_B the mean over classes of m_c m_c':

    Args:
        features: the head's input X, [images, features], of the training images.
        labels: class indices, [images].
        weight: W, [classes, features], as it acts on the features: for a head of cosines the rows divided
            by their norms.
        bias: b, [classes]; None: zeros.
    Returns:
        ``nc1``: tr(Sigma_W pinv(Sigma_B)) / C, variability within the classes against that between them;
        ``nc2_equinorm``: standard deviation (of the C values, not of a sample) over mean of |m_c|;
        ``nc2_equiangular``: mean over pairs of |cos(m_i, m_j) + 1 / (C - 1)|;
        ``nc2_w_equinorm``, ``nc2_w_equiangular``: the same of the rows of W, not centred;
        ``nc3``: |W / |W|_F - M / |M|_F|_F^2, M the rows m_c; 0..4;
        ``nc4``: share of the images for which argmax(Wx + b) is not the class of the nearest mu_c; the
            lower index wins a tie.
        Where classes have no image, C is the number of those that have, in all but the two measures of W.
        Undefined measures are absent (coinciding means; one class). Notes say so.
    Raises: ValueError as :func:`angles`.
    Source: Papyan, Han and Donoho 2020, figures 2 (NC2 norms), 4 (NC2 angles), 5 (NC3), 6 (NC1) and 7 (NC4),
        and their notebook (github.com/neuralcollapse/neuralcollapse).
    Differs from source: (1) the notebook's NC1 is not divided by C, the paper's is; (2) the notebook's
        standard deviation is that of a sample, sqrt(C / (C - 1)) times ours; (3) the pseudo-inverse keeps the
        directions in which the means differ by more than rounding, at most C - 1, where the notebook always
        keeps C - 1.
    """
    X, y, W = _checked(features, labels, weight)
    b = np.zeros(len(W)) if bias is None else np.asarray(bias, dtype=np.float64)
    if b.shape != W.shape[:1] or not np.isfinite(b).all():
        raise ValueError(f"bias must be finite and of shape [{len(W)}], one a class; got {list(b.shape)}")
    notes: list[str] = []
    members = dict(_by_class(y))
    present = np.array(sorted(members))
    absent = np.setdiff1d(np.arange(len(W)), present)
    _note(notes, "without an image, left out of nc1 to nc4 (nc2_w_* keep it)", absent)
    metrics = _equinorm_and_equiangular("nc2_w", W, 0.0, notes)

    means = np.stack([X[members[j]].mean(axis=0) for j in present])
    mu_G = means.mean(axis=0)
    M = means - mu_G
    K = len(present)
    rounding = float(np.finfo(np.float64).eps * max(X.shape) * np.linalg.norm(means))
    _, S, Vt = np.linalg.svd(M, full_matrices=False)
    rank = min(int((rounding < S).sum()), K - 1)
    if rank == 0:
        why = "one class has images" if K == 1 else "the class means coincide"
        notes.append(f"nc1, nc2_equinorm, nc2_equiangular, nc3, nc4: absent, {why}")
        return Geometry(metrics, tuple(notes))
    if rank < K - 1:
        notes.append(f"nc1: the {K} class means span {rank} of {K - 1} dimensions; no other one counts")
    # With M = U S V', pinv(Sigma_B) / K = V S^-2 V'. A covariance matrix would square the rounding errors.
    whiten = Vt[:rank].T / S[:rank]
    spread, mismatches = 0.0, 0
    for position, j in enumerate(present):
        of_class = X[members[j]]
        spread += float((((of_class - means[position]) @ whiten) ** 2).sum())
        # |x - mu_c|^2 without its part that all classes share, about mu_G: no digits lost to a large offset.
        nearest = present[((M**2).sum(axis=1) - 2.0 * (of_class - mu_G) @ M.T).argmin(axis=1)]
        mismatches += int(((of_class @ W.T + b).argmax(axis=1) != nearest).sum())
    metrics |= {"nc1": spread / len(X), "nc4": mismatches / len(X)}
    metrics |= _equinorm_and_equiangular("nc2", M, rounding, notes)
    rows = W[present]
    if rows.any():
        difference = rows / np.linalg.norm(rows) - M / np.linalg.norm(M)
        metrics["nc3"] = float((difference**2).sum())
    else:
        notes.append("nc3: absent, the classifier rows are zeros")
    return Geometry(metrics, tuple(notes))


def logit_norms(Z: npt.NDArray[Any]) -> dict[str, float]:
    """``mean`` and ``std`` (of these images, not of a sample) of the L2 norm of an image's logits.

    Args:
        Z: logits, [images, classes].
    Raises: ValueError for no images, or logits that are not finite.
    """
    logits = np.asarray(Z, dtype=np.float64)
    if logits.ndim != 2 or not logits.size or not np.isfinite(logits).all():
        raise ValueError(f"logits must be finite and of shape [images, classes]; got {list(logits.shape)}")
    norms = np.linalg.norm(logits, axis=1)
    return {"mean": float(norms.mean()), "std": float(norms.std())}


def _angles_to(units: _Floats, targets: _Floats) -> _Floats:
    """The angle of each row to the one target, or to that of its own; all unit vectors; radians."""
    apart, together = np.linalg.norm(units - targets, axis=1), np.linalg.norm(units + targets, axis=1)
    return np.asarray(2.0 * np.arctan2(apart, together), dtype=np.float64)


def _between(A: _Floats, of_a: _Indices, B: _Floats, of_b: _Indices) -> _Floats:
    """The angles of A_i to B_j for i in ``of_a``, j in ``of_b``, i != j."""
    # Class after class: all differences at once would be [classes, classes, features].
    found = [_angles_to(B[of_b[of_b != i]], A[i]) for i in of_a]
    return np.concatenate([np.zeros(0), *found])


def _equinorm_and_equiangular(
    name: str, rows: _Floats, rounding: float, notes: list[str]
) -> dict[str, float]:
    """Both NC2 measures of a set of vectors; what is not longer than ``rounding`` has no direction."""
    norms = np.linalg.norm(rows, axis=1)
    if norms.max() <= rounding:
        notes.append(f"{name}_equinorm, {name}_equiangular: absent, every vector is zero")
        return {}
    metrics = {f"{name}_equinorm": float(norms.std() / norms.mean())}
    if norms.min() <= rounding:
        notes.append(f"{name}_equiangular: absent, a vector is zero and has no direction")
        return metrics
    units = rows / norms[:, None]
    off_target = np.abs(units @ units.T + 1.0 / (len(rows) - 1))
    metrics[f"{name}_equiangular"] = float(off_target[~np.eye(len(rows), dtype=bool)].mean())
    return metrics


def _by_class(y: _Indices) -> Iterator[tuple[int, _Indices]]:
    """Each class that has images, with their positions."""
    order = np.argsort(y, kind="stable")
    for positions in np.split(order, np.flatnonzero(np.diff(y[order])) + 1):
        if len(positions):
            yield int(y[positions[0]]), positions


def _note(notes: list[str], what: str, classes: _Indices) -> None:
    if len(classes):
        more = f" and {len(classes) - 10} more" if len(classes) > 10 else ""
        notes.append(f"class {', '.join(map(str, classes[:10]))}{more}: {what}")


def _checked(
    features: npt.NDArray[Any], labels: npt.NDArray[Any], weight: npt.NDArray[Any]
) -> tuple[_Floats, _Indices, _Floats]:
    X, W = np.asarray(features, dtype=np.float64), np.asarray(weight, dtype=np.float64)
    y = np.asarray(labels, dtype=np.int64)
    if X.ndim != 2 or not X.size or y.shape != X.shape[:1] or W.ndim != 2 or W.shape[1] != X.shape[1]:
        raise ValueError(
            "features must have shape [images, features], labels [images] and weight [classes, features]; "
            f"got {list(X.shape)}, {list(y.shape)} and {list(W.shape)}"
        )
    if len(W) < 2:
        raise ValueError(f"the geometry of classes needs two or more of them; got {len(W)}")
    if not np.isfinite(X).all() or not np.isfinite(W).all():
        raise ValueError("features and weight must be finite; got NaN or infinity")
    if y.min() < 0 or y.max() >= len(W):
        raise ValueError(f"labels must be in 0..{len(W) - 1}; got {y.min()}..{y.max()}")
    return X, y, W
