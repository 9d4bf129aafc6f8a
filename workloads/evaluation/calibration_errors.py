"""Distances between promised and kept probabilities, each a function of probabilities and outcomes.

Images of equal probability count as one group in all of them, so that none depends on the order of images.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_Floats = npt.NDArray[np.float64]


def bin_totals(confidence: _Floats, outcome: _Floats, bins: int) -> tuple[_Floats, _Floats, _Floats]:
    """Equal-width bins (i/M, (i+1)/M], with 0 in the first.

    Args:
        confidence: promised probabilities, 0..1, [n].
        outcome: 1.0 where what was promised came true, 0.0 where not, [n].
        bins: M.
    Returns: sum of confidence, sum of outcome, and number of images, of each bin, [M].
    Raises: ValueError for M < 1.
    """
    _check_bins(bins)
    # side="left": a confidence on an edge belongs to the bin below it, so 1.0 is in the last one.
    index = np.searchsorted(np.arange(1, bins + 1) / bins, confidence, side="left")
    index = np.minimum(index, bins - 1)
    return (
        np.bincount(index, weights=confidence, minlength=bins).astype(np.float64),
        np.bincount(index, weights=outcome, minlength=bins).astype(np.float64),
        np.bincount(index, minlength=bins).astype(np.float64),
    )


def expected_calibration_error(confidence: _Floats, outcome: _Floats, bins: int) -> float:
    """ECE: mean over images of |mean confidence - accuracy| of their equal-width bin.

    Arguments and errors as :func:`bin_totals`.

    Source: Naeini et al. 2015; Guo et al. 2017 (arXiv 1706.04599), eq. 3.
    """
    promised, kept, counts = bin_totals(confidence, outcome, bins)
    return float(np.abs(promised - kept).sum() / counts.sum())


def adaptive_calibration_error(confidence: _Floats, outcome: _Floats, bins: int) -> float:
    """Adaptive ECE: mean over images of |mean confidence - accuracy| of their equal-mass bin.

    With the images sorted by confidence, bin i holds ranks floor(i n / M) to floor((i+1) n / M) - 1, so bin
    sizes differ by at most one, and with n < M some bins are empty. Images of equal confidence may have to be
    parted; each of them then counts with the accuracy of all of them, so that no order of them is chosen.

    Arguments and errors as :func:`bin_totals`.

    Source: Nguyen and O'Connor 2015 (arXiv 1508.05154) for equal-mass bins; Nixon et al. 2019 (arXiv
        1904.01685).
    Differs from source: the gap is absolute as in ECE, where Nguyen and O'Connor take the root mean square;
        of the highest probability only, where Nixon et al. average over all classes; the rule for ties.
    """
    _check_bins(bins)
    n = len(confidence)
    _, group, sizes = np.unique(confidence, return_inverse=True, return_counts=True)
    shared = (np.bincount(group, weights=outcome) / sizes)[group]
    bin_of_rank = np.repeat(np.arange(bins), np.diff(np.arange(bins + 1) * n // bins))
    gaps = np.bincount(bin_of_rank, weights=(confidence - shared)[np.argsort(confidence)])
    return float(np.abs(gaps).sum() / n)


def classwise_calibration_error(p: _Floats, labels: npt.NDArray[np.int64], bins: int) -> float:
    """Class-wise ECE: mean over the classes c of the ECE of p_c as the probability that the label is c.

    Args:
        p: probabilities, [n, classes].
        labels: class indices, [n].
        bins: number M of equal-width bins over all of 0..1, as :func:`bin_totals`.
    Returns: 0..1. Most of the n * classes probabilities are near 0 and well calibrated, so that it shrinks
        with the number of classes: compare it only between networks of equally many.
    Raises: ValueError for M < 1.
    Source: Kull et al. 2019 (arXiv 1910.12656), "classwise-ECE".
    """
    errors = [
        expected_calibration_error(p[:, c], (labels == c).astype(np.float64), bins) for c in range(p.shape[1])
    ]
    return float(np.mean(errors))


def kolmogorov_smirnov_error(confidence: _Floats, outcome: _Floats) -> float:
    """KS calibration error: the largest gap between promised and kept, summed up from the least sure image.

    The maximum, over all thresholds t, of |sum of (confidence - outcome) over the images of confidence t or
    less|, divided by the number of all images: no bins.

    Args:
        confidence: promised probabilities, 0..1, [n].
        outcome: 1.0 where what was promised came true, 0.0 where not, [n].
    Returns: 0..1.
    Source: Gupta et al. 2021 (arXiv 2006.12800), of the highest probability.
    Differs from source: the sums are compared at the end of each group of equal confidence only, as the
        definition reads; inside a group they would depend on the order of the images.
    """
    values, group, sizes = np.unique(confidence, return_inverse=True, return_counts=True)
    gaps = sizes * values - np.bincount(group, weights=outcome)
    return float(np.abs(gaps.cumsum()).max() / len(confidence))


def _check_bins(bins: int) -> None:
    if bins < 1:
        raise ValueError(f"the number of bins must be >= 1; got {bins!r}")
