"""Small image sets in every layout, with pixels that are known."""

from __future__ import annotations

import importlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from workloads.data.images import Pixels

# By name, because the package has no types.
pyarrow = importlib.import_module("pyarrow")
parquet = importlib.import_module("pyarrow.parquet")


def pictures(count: int, shape: tuple[int, int, int] = (3, 8, 8), seed: int = 0) -> Pixels:
    """Different images, uint8 [count, channels, height, width]."""
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def encoded(image: npt.NDArray[np.uint8], form: str = "PNG") -> bytes:
    """An image [channels, height, width] as the content of an image file."""
    out = io.BytesIO()
    Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(out, form)
    return out.getvalue()


def write_parquet(
    file: Path,
    images: Sequence[npt.NDArray[np.uint8] | bytes],
    labels: Sequence[int | None] | None,
    *,
    columns: tuple[str, str] = ("image", "label"),
    names: Sequence[str] = (),
    more: Mapping[str, Sequence[int]] | None = None,
    plain: bool = False,
) -> None:
    """One file as the ``datasets`` library writes it.

    Args:
        columns: names of the image and the label column.
        names: class names for the metadata.
        more: further columns.
        plain: the image column holds bytes and no struct.
    """
    contents = [image if isinstance(image, bytes) else encoded(image) for image in images]
    table: dict[str, Any] = {columns[0]: contents}
    if not plain:
        table[columns[0]] = [{"bytes": each, "path": f"{i}.png"} for i, each in enumerate(contents)]
    if labels is not None:
        table[columns[1]] = pyarrow.array(labels, pyarrow.int64())
    made = pyarrow.table({**table, **(more or {})})
    if names:
        features = {columns[1]: {"names": list(names), "_type": "ClassLabel"}}
        made = made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    file.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(made, file, row_group_size=7)


def write_set(
    folder: Path,
    *,
    classes: int = 3,
    train: int = 10,
    test: int = 4,
    shape: tuple[int, int, int] = (3, 8, 8),
    seed: int = 0,
) -> dict[str, Pixels]:
    """A set in parquet files, ``train`` and ``test`` images of each class, classes in turn; its pixels."""
    made = {}
    for part, each in (("train", train), ("test", test)):
        if each:
            made[part] = pictures(classes * each, shape, seed if part == "train" else seed + 1000)
            labels = [i % classes for i in range(classes * each)]
            write_parquet(folder / f"{part}-00000-of-00001.parquet", list(made[part]), labels)
    return made


def write_images(folder: Path, images: Mapping[str, npt.NDArray[np.uint8] | bytes]) -> None:
    """Image files by path below ``folder``."""
    for name, image in images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        form = "JPEG" if name.lower().endswith(("jpg", "jpeg")) else "PNG"
        (folder / name).write_bytes(image if isinstance(image, bytes) else encoded(image, form))
