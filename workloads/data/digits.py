"""scikit-learn's handwritten digits and sample photographs: real data on any machine, without a download.

scikit-learn is imported here only, and only while data are being prepared.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from workloads.contract import DataMissing
from workloads.data.catalogue import SOURCES
from workloads.data.images import Part, SourceData
from workloads.data.randomness import generator
from workloads.data.splits import stratified

_MISSING = (
    "{what} could not be read ({error}). They come with scikit-learn: pip install --force-reinstall {pip}"
)


def load() -> SourceData:
    """All 1,797 digits, grey levels 0..16 scaled to 0..255, uint8 [N, 1, 8, 8].

    The test part is one third of each class, the same whatever the study says: its split has a seed of its
    own and does not depend on ``split_seed``.

    Raises: DataMissing where scikit-learn or its data file is missing.
    """
    try:
        from sklearn.datasets import load_digits

        digits = load_digits()
    except (ImportError, OSError) as error:
        raise DataMissing(
            _MISSING.format(what="The handwritten digits", error=error, pip="scikit-learn")
        ) from error
    levels = np.asarray(digits.images, dtype=np.float64)
    pixels = np.rint(levels * 255.0 / 16.0).astype(np.uint8)[:, None]
    labels = np.asarray(digits.target, dtype=np.int64)
    fraction = float(SOURCES["digits"].facts["test_fraction"])
    train, test = stratified(labels, fraction, generator("digits", "test part"))
    return SourceData(*(Part(pixels[index], labels[index], num_classes=10) for index in (train, test)))


def load_photographs() -> list[npt.NDArray[np.uint8]]:
    """The two sample photographs (china.jpg, flower.jpg), each uint8 [427, 640, 3], RGB.

    Raises: DataMissing where scikit-learn, the photographs or the JPEG reader is missing.
    """
    try:
        from sklearn.datasets import load_sample_image

        return [np.asarray(load_sample_image(name), dtype=np.uint8) for name in ("china.jpg", "flower.jpg")]
    except (ImportError, OSError, AttributeError) as error:
        raise DataMissing(
            _MISSING.format(what="The sample photographs", error=error, pip="scikit-learn pillow")
        ) from error
