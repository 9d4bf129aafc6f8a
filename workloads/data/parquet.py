"""Image sets in parquet files as the ``datasets`` library writes them, and as most sets on its hub are kept.

A column ``image`` (or ``img``) holds the encoded image, as bytes or as a struct with a field ``bytes``; a
column ``label`` (or ``fine_label``) its class. Columns named ``<source>_overlap`` say which images show
classes of another source.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from workloads.contract import DataMissing
from workloads.data.images import Labels
from workloads.data.readers import BATCH, TEST_NAMES, Batch, PartName, unlabelled

_IMAGES = ("image", "img")
_LABELS = ("label", "fine_label")
_OVERLAP = "_overlap"


def find(folder: Path, part: PartName) -> ParquetPart | None:
    """The part in ``<folder>/<part>-*.parquet`` or one folder below (the hub's ``data/``), if it is there."""
    for place in (folder, *(each for each in sorted(folder.glob("[!.]*")) if each.is_dir())):
        for name in (part,) if part == "train" else TEST_NAMES:
            files = sorted(place.glob(f"{name}-*.parquet"))
            if files:
                return ParquetPart(tuple(files), place)
    return None


@dataclass(frozen=True)
class ParquetPart:
    """One part of a set, in one or more files."""

    files: tuple[Path, ...]
    base: Path
    layout: str = "parquet"
    note: str = "parquet"

    @property
    def num_classes(self) -> int | None:
        """The number of class names in the schema's ``huggingface`` metadata, if any are there."""
        schema = self._schema
        try:
            features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
            return len(features[_first(schema.names, _LABELS)]["names"])
        except (KeyError, ValueError, TypeError):
            return None

    @cached_property
    def _schema(self) -> Any:
        return _open(self.files[0]).schema_arrow

    def count(self) -> int:
        return sum(int(_open(file).metadata.num_rows) for file in self.files)

    def batches(self) -> Iterator[Batch]:
        for file in self.files:
            opened = _open(file)
            schema = opened.schema_arrow
            image, label = _image_column(schema, file), _first(schema.names, _LABELS)
            extra = [name for name in schema.names if name.endswith(_OVERLAP)]
            columns = [image, *([label] if label else []), *extra]
            start = 0
            try:
                for table in opened.iter_batches(batch_size=BATCH, columns=columns):
                    yield _batch(file, start, table, image, label, extra)
                    start += table.num_rows
            except _error() as error:
                raise ValueError(f"{file}: damaged from row {start} on ({error})") from error


def _batch(file: Path, start: int, table: Any, image: str, label: str | None, extra: Sequence[str]) -> Batch:
    column = table.column(image)
    if hasattr(column.type, "num_fields") and column.type.num_fields:
        column = column.flatten()[column.type.get_field_index("bytes")]

    def where(row: int) -> str:
        return f"{file}: row {start + row} (from 0)"

    def whole(name: str) -> Labels:
        numbers = table.column(name)
        if numbers.null_count:
            row = numbers.is_null().to_pylist().index(True)
            raise ValueError(f"{where(row)}: column {name} must hold a whole number; got nothing")
        try:
            return np.asarray(numbers.cast("int64").to_numpy(zero_copy_only=False), dtype=np.int64)
        except _error() as error:
            raise ValueError(f"{file}: column {name} must hold whole numbers; got {error}") from error

    images = [b"" if each is None else each for each in column.to_pylist()]
    labels = whole(label) if label else unlabelled(len(images))
    return Batch(images, labels, where, {name.removesuffix(_OVERLAP): whole(name) for name in extra})


def _image_column(schema: Any, file: Path) -> str:
    name = _first(schema.names, _IMAGES)
    if name is None:
        raise ValueError(f"{file}: must have a column {' or '.join(_IMAGES)}; got {', '.join(schema.names)}")
    kind = schema.field(name).type
    if str(kind) not in ("binary", "large_binary") and "bytes: binary" not in str(kind):
        raise ValueError(f"{file}: column {name} must hold bytes of image files; got {kind}")
    return name


def _first(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    return next((name for name in wanted if name in names), None)


def _open(file: Path) -> Any:
    try:
        # By name, because the package has no types; and only here, because it takes a moment.
        return importlib.import_module("pyarrow.parquet").ParquetFile(file)
    except ImportError as error:
        raise DataMissing(f"{file}: parquet files need pyarrow ({error}): pip install pyarrow") from error
    except _error() as error:
        raise ValueError(f"{file}: not a readable parquet file ({error}). Put it there anew") from error


def _error() -> type[Exception] | tuple[type[Exception], ...]:
    return (importlib.import_module("pyarrow").ArrowException, OSError)
