"""The images of a benchmark: part of CIFAR-10 and SVHN, or drawn ones, for this tool and for its peers.

``<folder>/sources`` holds them as a user's data sets are (parquet files of encoded images), for
``orchestrate study --data``. ``<folder>/prepared`` holds what this tool makes of them, and
``<folder>/arrays`` the very same training, validation, test, noise and far-OOD images for the peers.
"""

from __future__ import annotations

import importlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from workloads.contract import DataConfig, DataFacts, NoiseConfig
from workloads.data.images import Images, Pixels
from workloads.data.prepared import PreparedData
from workloads.run import prepare

CLASSES = 10
SHAPE = (3, 32, 32)


@dataclass(frozen=True)
class Sizes:
    """Images of each set."""

    train: int
    validation: int = 1000
    test: int = 2000
    far: int = 2000
    noise: int = 1000


@dataclass(frozen=True)
class Material:
    """Prepared images."""

    folder: Path
    data: DataConfig
    noise: NoiseConfig
    facts: DataFacts

    @property
    def sources(self) -> Path:
        return self.folder / "sources"

    @property
    def prepared(self) -> Path:
        return self.folder / "prepared"

    @property
    def arrays(self) -> Path:
        return self.folder / "arrays"


def make(folder: Path, sizes: Sizes, data: Path | None) -> Material:
    """Choose or draw the images, and prepare them.

    Args:
        data: the user's data sets; None: images are drawn.
    Raises: DataMissing where CIFAR-10 or SVHN is not in ``data``.
    """
    config = DataConfig(
        source="cifar10",
        validation_fraction=sizes.validation / (sizes.train + sizes.validation),
        far_ood=("svhn",),
    )
    noise = NoiseConfig(size=sizes.noise)
    train, test, far = _drawn(sizes) if data is None else _real(sizes, data, folder / "whole")
    _write_part(folder / "sources" / "cifar10", "train", train)
    _write_part(folder / "sources" / "cifar10", "test", test)
    _write_part(folder / "sources" / "svhn", "test", far)
    facts = prepare(config, noise, folder / "prepared", folder / "sources")
    material = Material(folder, config, noise, facts)
    _write_arrays(material)
    return material


def _real(sizes: Sizes, data: Path, work: Path) -> tuple[Images, Images, Images]:
    config = DataConfig(source="cifar10", validation_fraction=0.02, far_ood=("svhn",))
    noise = NoiseConfig(size=1)
    prepare(config, noise, work, data)
    whole = PreparedData.open(config, noise, work, stage="confirm")
    train, validation, test = whole.train(), whole.validation(), whole.test()
    joined = Images(
        np.concatenate((train.images, validation.images)), np.concatenate((train.labels, validation.labels))
    )
    ood = whole.ood()["svhn"]
    far = Images(ood, np.zeros(len(ood), np.int64))
    wanted = (sizes.train + sizes.validation, sizes.test, sizes.far)
    first, second, third = (_some(s, n) for s, n in zip((joined, test, far), wanted, strict=True))
    return first, second, third


def _some(images: Images, count: int) -> Images:
    chosen = np.random.default_rng(0).permutation(len(images))[:count]
    return Images(np.ascontiguousarray(images.images[chosen]), images.labels[chosen])


def _drawn(sizes: Sizes) -> tuple[Images, Images, Images]:
    """A smooth pattern a class under noise; OOD images have patterns of their own."""
    draws = np.random.default_rng(0)
    coarse = draws.normal(0, 40, (2 * CLASSES, SHAPE[0], 4, 4))
    patterns = np.kron(coarse, np.ones((1, 1, 8, 8)))

    def of(classes: npt.NDArray[np.int64]) -> Pixels:
        images = 128 + patterns[classes] + draws.normal(0, 40, (len(classes), *SHAPE))
        drawn: Pixels = images.clip(0, 255).astype(np.uint8)
        return drawn

    train = draws.integers(0, CLASSES, sizes.train + sizes.validation)
    train[: 2 * CLASSES] = np.arange(2 * CLASSES) % CLASSES
    test = draws.integers(0, CLASSES, sizes.test)
    test[:CLASSES] = np.arange(CLASSES)
    far = draws.integers(0, CLASSES, sizes.far)
    return Images(of(train), train), Images(of(test), test), Images(of(far + CLASSES), far)


def _write_part(folder: Path, part: str, images: Images) -> None:
    # Without types; imported late, as it takes a quarter of a second.
    pyarrow = importlib.import_module("pyarrow")
    parquet = importlib.import_module("pyarrow.parquet")
    folder.mkdir(parents=True, exist_ok=True)
    encoded = []
    for pixels in images.images:
        buffer = io.BytesIO()
        Image.fromarray(pixels.transpose(1, 2, 0)).save(buffer, "png", compress_level=1)
        encoded.append({"bytes": buffer.getvalue(), "path": None})
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    columns = {"image": pyarrow.array(encoded, kind), "label": pyarrow.array(images.labels)}
    parquet.write_table(pyarrow.table(columns), folder / f"{part}-00000-of-00001.parquet")


def _write_arrays(material: Material) -> None:
    data = PreparedData.open(material.data, material.noise, material.prepared, stage="confirm")
    unlabelled = {"far": data.ood()["svhn"], "noise": next(iter(data.noise().values()))}
    sets = {
        "train": data.train(),
        "validation": data.validation(),
        "test": data.test(),
        **{name: Images(pixels, np.zeros(len(pixels), np.int64)) for name, pixels in unlabelled.items()},
    }
    material.arrays.mkdir(exist_ok=True)
    for name, each in sets.items():
        np.save(material.arrays / f"{name}.npy", np.ascontiguousarray(each.images.transpose(0, 2, 3, 1)))
        np.save(material.arrays / f"{name}_labels.npy", each.labels)
    np.save(material.arrays / "statistics.npy", np.array((data.mean, data.std)))
