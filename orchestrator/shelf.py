"""``orchestrate data``: which data sets are there, fetching and verifying them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from orchestrator.errors import Unavailable, UserError
from orchestrator.report.catalogue_text import columns
from workloads.contract import DataMissing
from workloads.data import shelf
from workloads.data.catalogue import SOURCES
from workloads.data.download import Progress

Found = TypeVar("Found")


def list_data(names: Sequence[str], sources: Path) -> int:
    """Print what is there of every source; of those named also how to get what is not."""
    rows: list[tuple[str, ...]] = [("data set", "layout", "train", "test", "size", "")]
    hints = []
    for name in names or SOURCES:
        found = _known(shelf.status, name, sources)
        counts = ("-" if count is None else f"{count:,}" for count in (found.num_train, found.num_test))
        size = f"{found.size_bytes / 1e6:,.1f} MB" if found.size_bytes else "-"
        rows.append((name, found.layout or "not there", *counts, size, ""))
        if names and found.hint:
            hints.append(f"\n{found.hint}")
    print(f"Data sets in {sources}", *columns(rows), *hints, sep="\n")
    return 0


def fetch_data(names: Sequence[str], sources: Path) -> int:
    """Download the named sources; one that cannot be had does not keep the others from it."""
    if not names:
        raise UserError("name what to fetch. orchestrate data list says what there is")
    failed = []
    for name in names:
        try:
            print(f"{name}: in {_known(shelf.fetch, name, sources, _Line())}", flush=True)
        except (DataMissing, ConnectionError) as error:
            failed.append(str(error))
    if failed:
        raise Unavailable("\n".join(failed))
    return 0


def check_data(names: Sequence[str], sources: Path) -> int:
    """Decode every image of the named sources, or of all that are there; 1 where anything is wrong."""
    there = [name for name in SOURCES if shelf.status(name, sources).layout is not None]
    wrong = False
    for name in names or there:
        problems = _known(shelf.check, name, sources)
        print(f"{name}: {'sound' if not problems else f'{len(problems)} problem(s)'}", flush=True)
        for problem in problems:
            print(f"  {problem}")
        wrong = wrong or bool(problems)
    return 1 if wrong else 0


class _Line:
    """How far a download is, in one line that is written over; nothing where no terminal looks on."""

    def __call__(self, progress: Progress) -> None:
        if not sys.stderr.isatty():
            return
        done, total = progress.done_bytes, progress.total_bytes
        share = f"{done / 1e6:,.1f} MB" + (
            f" of {total / 1e6:,.1f} ({100 * done // total} %)" if total else ""
        )
        end = "\n" if total is not None and done >= total else ""
        print(f"\r\x1b[K{progress.file}  {share}", end=end, file=sys.stderr, flush=True)


def _known(look: Callable[..., Found], name: str, *arguments: object) -> Found:
    """What ``look`` says of a source; a name or a file that is wrong is the user's to mend."""
    try:
        return look(name, *arguments)
    except ValueError as error:
        raise UserError(str(error)) from error
