"""Where the raw files of a source are, and what to say where they are not."""

from __future__ import annotations

from pathlib import Path

from workloads.contract import DataMissing
from workloads.data import folders, parquet, published
from workloads.data.catalogue import SOURCES
from workloads.data.images import Labels
from workloads.data.names import is_path, path_of
from workloads.data.readers import Loaded, PartName, Reader


def find(name: str, part: PartName, sources: Path | None) -> Reader:
    """The part of a source, in the first layout that is there: parquet, the published files, image files.

    Args:
        name: a word of the catalogue, or a path.
        sources: holds one folder for each source of the catalogue, by its name.
    Raises: DataMissing, which says where it was looked for and how to get it.
    """
    if is_path(name):
        folder = path_of(name)[0]
        if not folder.is_dir():
            raise DataMissing(f"{name}: there is no such folder; looked at {folder}")
    elif name == "digits":
        return _digits(part)
    elif sources is None:
        raise DataMissing(
            f"{name}: needs raw files, and no folder of sources was given. "
            f"{how_to_get(name, Path('<sources>') / name)}"
        )
    else:
        folder = sources / name
    found = _look(name, folder, part) if folder.is_dir() else None
    if found is None:
        raise DataMissing(_missing(name, part, folder))
    return found


def how_to_get(name: str, folder: Path) -> str:
    """How to come by the files of a source of the catalogue, in a sentence."""
    facts = SOURCES[name].facts
    by_hand = f"put into {folder} {facts['get']}, or the set as parquet files"
    if "fetch" in facts:
        return f"Get it with: orchestrate data fetch {name}; or, without a connection, {by_hand}"
    return f"No checksum of it is published, so it is not downloaded: {by_hand}"


def _look(name: str, folder: Path, part: PartName) -> Reader | None:
    return (
        parquet.find(folder, part)
        or (None if is_path(name) else published.find(name, folder, part))
        or folders.find(folder, part)
    )


def _missing(name: str, part: PartName, folder: Path) -> str:
    looked = [f"{part}-*.parquet (there or one folder below)"]
    if not is_path(name) and "fetch" in SOURCES[name].facts:
        looked.append("the published files as torchvision lays them out")
    looked.append(f"{part}/<class>/*.png (or .jpg ...)")
    if part == "test":
        looked.append("images alone (where there is no train/)")
    what = f"{name}: its {part} part is not in {folder}; looked for {', '.join(looked)}"
    return f"{what}. {how_to_get(name, folder)}" if not is_path(name) else what


def _digits(part: PartName) -> Reader:
    from workloads.data import digits

    def load() -> tuple[object, Labels]:
        chosen = getattr(digits.load(), part)
        return chosen.images[:, 0], chosen.labels

    return Loaded("bundled", (), Path(), load, note=f"digits {part}", num_classes=10)
