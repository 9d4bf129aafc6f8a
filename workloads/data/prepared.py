"""Data made ready once, so that a trial only maps files into memory.

``prepare`` reads the sources, splits, makes the noise and OOD sets, and writes one folder named by a hash of
their content: so other raw files never give old arrays, and a trial finds its data by the hash it was planned
with. The folder appears whole or not at all; several processes may prepare the same data at once.
"""

from __future__ import annotations

import copy
import hashlib
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from workloads.contract import DataConfig, DataFacts, DataMissing, NoiseConfig, SealedTest, Stage
from workloads.data.assembly import assemble, stated_normalisation
from workloads.data.images import Images, Index, Pixels
from workloads.data.index import Index as Ledger
from workloads.data.index import facts_of
from workloads.data.names import set_name
from workloads.data.stock import Stock
from workloads.data.workshop import Record, install, misfits, read_record, workshop
from workloads.data.writing import write

_SEALED_KINDS = frozenset({"test", "near", "far"})

__all__ = ["Images", "PreparedData", "folder", "prepare", "verify"]


def folder(data: DataConfig, noise: NoiseConfig, root: Path, data_hash: str | None = None) -> Path:
    """Where these data are prepared.

    Args:
        data_hash: of the prepared data (``DataFacts.hash``); None: of those prepared last with these
            settings.
    Raises: DataMissing where nothing was ever prepared with these settings.
    """
    if data_hash is None:
        latest = Ledger(data, noise, root).latest()
        if latest is None:
            raise DataMissing(f"no data were prepared in {root} with these settings. Run prepare first")
        data_hash = latest.hash
    return root / f"{set_name(data.source)}-{data_hash}"


def prepare(data: DataConfig, noise: NoiseConfig, root: Path, sources: Path | None = None) -> DataFacts:
    """Make the data ready under ``root``, unless they are; a damaged folder is made again.

    The check for damage is cheap (every file is there and has its size); :func:`verify` reads every byte.

    Args:
        sources: holds one folder of raw files for each source of the catalogue; not needed for the digits,
            for synthetic sets and for paths.
    Raises: ValueError for settings that name unknown or impossible sets, and for damaged raw files;
        DataMissing where a source's files are not there.
    """
    stock = Stock(data, root, sources)
    stated_normalisation(data)
    index = Ledger(data, noise, root)
    facts = index.facts(stock.hashes)
    if facts is not None and _whole(folder(data, noise, root, facts.hash)):
        return facts
    with workshop(root, set_name(data.source)) as made:
        record = write(assemble(data, noise, stock), made)
        # The folder may be there, made of other raw files with the same pixels: then its own facts stay, and
        # ours, which tell where these pixels are from, go into the index.
        facts = facts_of(record["facts"])
        install(made, folder(data, noise, root, facts.hash), record, _read)
    index.note(stock.hashes, facts)
    return facts


def verify(data: DataConfig, noise: NoiseConfig, root: Path, data_hash: str | None = None) -> list[str]:
    """Every fault of the prepared folder, reading every byte; an empty list where all is well."""
    target = folder(data, noise, root, data_hash)
    record = _read(target)
    if record is None:
        return [f"{target / 'facts.json'} is missing or damaged"]
    faults = misfits(target, record, record["files"])
    return faults or [
        f"{target / name} does not hold what was written (its hash differs)"
        for name, wanted in record["files"].items()
        if _content(target / name) != wanted["sha256"]
    ]


class PreparedData:
    """The prepared data as one stage may see them.

    A search trial cannot reach test images or OOD sets: asking raises before any file is touched, and
    nothing else here needs those files to be there.
    """

    def __init__(self, target: Path, record: Record, stage: Stage, data: DataConfig) -> None:
        self._folder = target
        self._record = record
        self._stage = stage
        self._stated = stated_normalisation(data)
        self._kept: Index | None = None

    @classmethod
    def open(
        cls,
        data: DataConfig,
        noise: NoiseConfig,
        root: Path,
        *,
        stage: Stage,
        data_hash: str | None = None,
    ) -> PreparedData:
        """Open what ``prepare`` made with the same settings.

        Args:
            data_hash: of the data to open: no raw files are needed then, nor any other file beside the
                prepared folder. None: those prepared last with these settings.
        Raises: DataMissing where it is not there, or a file that this stage may read is damaged.
        """
        target = folder(data, noise, root, data_hash)
        record = _read(target)
        if record is None:
            raise DataMissing(f"no prepared data in {target}. Run prepare with the same settings first")
        opened = cls(target, record, stage, data)
        names = [name for name in record["files"] if opened._may_read(record["files"][name]["kind"])]
        faults = misfits(target, record, names)
        if faults:
            raise DataMissing("; ".join(faults) + ". Run prepare again: it makes a damaged folder anew")
        return opened

    @cached_property
    def facts(self) -> DataFacts:
        """What the data turned out to be (numbers and hashes, also of the sealed sets)."""
        return facts_of(self._record["facts"])

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel, pixels in [0, 1]: over the training images, or as stated for the source."""
        return self._stated[0] if self._stated else tuple(self._record["mean"])

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel, pixels in [0, 1], as ``mean``; never 0."""
        return self._stated[1] if self._stated else tuple(self._record["std"])

    def train(self) -> Images:
        """The training images, mapped into memory: what is written to them stays in this process, and
        ``torch.from_numpy`` takes them without a copy. Some of them, copied, after :meth:`restricted`."""
        train = self._labelled("train")
        return train if self._kept is None else Images(train.images[self._kept], train.labels[self._kept])

    def restricted(self, kept: Index) -> PreparedData:
        """The same data with these training images alone, by their position; the facts stay those of all."""
        restricted = copy.copy(self)
        restricted._kept = kept
        return restricted

    def validation(self) -> Images:
        """The validation images, split off from the training part."""
        return self._labelled("validation")

    def noise(self) -> dict[str, Pixels]:
        """The Gaussian-noise validation sets by name, e.g. ``noise_0.25``."""
        return self._sets("noise")

    def test(self) -> Images:
        """The ID test images. Raises SealedTest in stage ``search``."""
        self._unseal("the test images")
        return self._labelled("test")

    def ood(self) -> dict[str, Pixels]:
        """The OOD test sets by name, near before far. Raises SealedTest in stage ``search``."""
        self._unseal("the OOD test sets")
        return {**self._sets("near"), **self._sets("far")}

    def _may_read(self, kind: str) -> bool:
        return kind not in _SEALED_KINDS or self._stage in ("confirm", "audit")

    def _unseal(self, what: str) -> None:
        if not self._may_read("test"):
            raise SealedTest(
                f"{what} are sealed: only a confirm or audit trial may open them; got {self._stage!r}"
            )

    def _labelled(self, name: str) -> Images:
        labels: npt.NDArray[np.int64] = np.load(self._folder / f"{name}_labels.npy")
        return Images(self._pixels(name), labels)

    def _sets(self, kind: str) -> dict[str, Pixels]:
        return {name: self._pixels(name) for name, each in self.facts.sets.items() if each["kind"] == kind}

    def _pixels(self, name: str) -> Pixels:
        pixels: Pixels = np.load(self._folder / f"{name}.npy", mmap_mode="c")
        return pixels


def _read(target: Path) -> Record | None:
    """What ``facts.json`` says, or None where it is missing or unreadable."""
    record = read_record(target, ("facts", "mean", "std"))
    try:
        if record is not None:
            facts_of(record["facts"])
    except (TypeError, KeyError):
        return None
    return record


def _whole(target: Path) -> bool:
    record = _read(target)
    return record is not None and not misfits(target, record, record["files"])


def _content(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
