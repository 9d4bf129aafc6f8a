"""Arrays in a compressed .npz file, its comment the SHA-256 of all before it; ``numpy.load`` reads it."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.sealed import TRAILER_SIZE, Damaged, with_trailer, without_trailer

_LEVEL = 1
"""Of DEFLATE: features after a ReLU halve at any level, and a higher one takes several times as long."""


def packed(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """The content of the file; equal arrays make equal files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
        for name, array in arrays.items():
            # Without the time of day.
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(entry, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)
        # The archive ends with its comment, whose length is written before it.
        archive.comment = bytes(TRAILER_SIZE)
    return with_trailer(buffer.getvalue()[:-TRAILER_SIZE])


def read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """What :func:`packed` made a file of.

    Raises: Damaged for a file that is missing, or is not what was written.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Damaged(f"{path} is missing or not readable ({error.strerror})") from error
    if without_trailer(content) is None:
        raise Damaged(f"{path} does not hold what was written (its SHA-256 differs)")
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
