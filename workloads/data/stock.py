"""The sources that one study needs: found, told apart by their files' hashes, and decoded when asked."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from workloads.contract import DataConfig
from workloads.data.catalogue import SOURCES
from workloads.data.decoding import Uneven, Wanted, decoded, source_hash
from workloads.data.images import Part, SourceData
from workloads.data.location import find
from workloads.data.names import HELD_OUT, SYNTHETIC, is_path, ood_problems, path_of, set_name, source_problem
from workloads.data.readers import PartName, Reader


class Stock:
    """The raw material of a study."""

    def __init__(self, data: DataConfig, root: Path, sources: Path | None = None) -> None:
        """Find every file, reading none.

        Args:
            root: holds what is decoded.
            sources: holds one folder of raw files for each source of the catalogue.
        Raises: ValueError for names that cannot be; DataMissing where files are not there.
        """
        names = (*data.near_ood, *data.far_ood)
        problem = source_problem(data.source)
        problems = [problem] if problem else ood_problems(data.source, names)
        if problems:
            raise ValueError("; ".join(problems))
        self._data = data
        self._root = root
        self._readers: dict[tuple[str, PartName], Reader] = {}
        if data.source != "digits":
            self._readers = {(data.source, part): find(data.source, part, sources) for part in _PARTS}
            layouts = {reader.layout for reader in self._readers.values()}
            if len(layouts) > 1:
                raise ValueError(
                    f"{data.source}: both parts must be in one layout, or compression would tell them apart; "
                    f"got {' and '.join(sorted(layouts))}. Take one away"
                )
        for name in names:
            if name != HELD_OUT and name not in SYNTHETIC:
                self._readers[name, "test"] = find(name, "test", sources)

    @cached_property
    def hashes(self) -> dict[str, str]:
        """The hash of the raw files of every part, by name and part.

        Raises: ValueError where an OOD set is, by another name, the source's own test part.
        """
        found = {each: source_hash(reader, self._root) for each, reader in self._readers.items()}
        own = {hashed for (name, _), hashed in found.items() if name == self._data.source}
        for (name, _), hashed in found.items():
            if name != self._data.source and hashed and hashed in own:
                raise ValueError(f"an OOD set must not be the source itself; {name} has the same files")
        return {f"{name} {part}": hashed for (name, part), hashed in found.items()}

    def source(self) -> SourceData:
        """The ID source, every class of it.

        Raises: ValueError for damaged files, and for a folder whose images differ in size.
        """
        if self._data.source == "digits":
            from workloads.data import digits

            return digits.load()
        train, test = (self._known(part) for part in _PARTS)
        if train.images.shape[1:] != test.images.shape[1:]:
            raise ValueError(
                f"{self._data.source}: the images of both parts must have one shape; got "
                f"{train.images.shape[1:]} for training and {test.images.shape[1:]} for testing"
            )
        return SourceData(train, test)

    def ood(self, name: str, shape: tuple[int, int, int]) -> Part:
        """The test part of another source, converted to the ID images' channels, height and width."""
        channels, height, width = shape
        wanted = Wanted(set_name(name), "test", channels, (height, width), num_classes=_stated_classes(name))
        return decoded(self._readers[name, "test"], wanted, self._root)

    def _known(self, part: PartName) -> Part:
        name = self._data.source
        if is_path(name):
            side = path_of(name)[1]
            wanted = Wanted(set_name(name), part, size=(side, side) if side else None)
        else:
            facts = SOURCES[name].facts
            stated = (int(facts["image_height"]), int(facts["image_width"]))
            wanted = Wanted(
                name,
                part,
                channels=int(facts["image_channels"]),
                fallback=stated,
                num_classes=_stated_classes(name),
            )
        try:
            return decoded(self._readers[name, part], wanted, self._root)
        except Uneven as error:
            raise ValueError(
                f"{error}. ID images are not made equal unasked: name the source {name}@32 to have each "
                f"scaled and its centre cut to 32x32 pixels (or another size); grey beside colour must be "
                f"converted beforehand"
            ) from error


_PARTS: tuple[PartName, PartName] = ("train", "test")


def _stated_classes(name: str) -> int | None:
    return None if is_path(name) else int(SOURCES[name].facts["num_classes"]) or None
