"""How a study names data: a word of the catalogue, or the path of a folder. Reads no file, loads no numpy."""

from __future__ import annotations

import difflib
import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from workloads.data.catalogue import SOURCES

HELD_OUT = "held_out"
"""The OOD set of the source's classes that are not in-distribution."""

SYNTHETIC: dict[str, str] = {
    "uniform": "every pixel uniform over 0..255",
    "gaussian": "clip(N(.5, .5), 0, 1): twice the sigma of the usual noise validation set",
    "blobs": "bright soft shapes on black",
    "pixel_permuted": "the ID test images, the pixels of each in a random order",
    "phase_randomised": "the ID test images, the phases of each one's spectrum random",
    "photo_patches": "patches of the two photographs that come with scikit-learn",
}
"""OOD sets that need no files of their own, with their meaning."""

_PARTS = ("train", "validation", "test")
_RESERVED = frozenset(
    {*_PARTS, *(f"{part}_labels" for part in _PARTS), HELD_OUT, *SYNTHETIC}
    # In metrics and among a trial's saved outputs.
    | {"near", "far", "id_test", "id_validation", "id_train", "head", "scores"}
)


def reserved(name: str) -> bool:
    """Whether a set of our own has this name."""
    return name in _RESERVED or name.startswith("noise_")


def is_path(name: str) -> bool:
    """Whether a study means a folder by this, and not a word of the catalogue."""
    return "/" in name or name.startswith((".", "~"))


def path_of(name: str) -> tuple[Path, int | None]:
    """The folder that a path means, and the side in pixels that ``@<side>`` at its end asks for (or None)."""
    match = re.fullmatch(r"(.+?)(?:@([1-9][0-9]*))?", name)
    if match is None:
        raise ValueError(f"a path must not be empty; got {name!r}")
    # abspath, and not resolve: a link keeps the name that the user gave it.
    folder = Path(os.path.abspath(Path(match[1]).expanduser()))  # noqa: PTH100
    return folder, int(match[2]) if match[2] else None


def set_name(name: str) -> str:
    """What metrics, files and reports call a source or OOD set: a path by its folder's name, made safe."""
    if not is_path(name):
        return name
    return re.sub(r"[^A-Za-z0-9_-]+", "_", path_of(name)[0].name).strip("_") or "images"


def source_problem(name: str) -> str | None:
    """Why this cannot be the source of a study (its ID data), in a sentence; None where it can."""
    if is_path(name):
        return None
    if name not in SOURCES:
        return must_be("a data source", name, SOURCES) + _OR_PATH
    if not SOURCES[name].facts["num_train"]:
        trained = [other for other, entry in SOURCES.items() if entry.facts["num_train"]]
        return f"{name} has no training part: it can only be an OOD set. Sources are {', '.join(trained)}"
    return None


def ood_problem(id_source: str, name: str) -> str | None:
    """Why this cannot be an OOD set of a study with that source, in a sentence; None where it can.

    Any source, any folder, ``held_out`` and the synthetic sets may be one, near or far as the study says.
    """
    offered = [HELD_OUT, *SYNTHETIC, *(other for other in SOURCES if other != id_source)]
    if name == id_source or (
        is_path(name) and is_path(id_source) and path_of(name)[0] == path_of(id_source)[0]
    ):
        return (
            f"an OOD set must not be the source itself; got {name!r}. Its left-out classes are {HELD_OUT!r}"
        )
    if is_path(name):
        safe = set_name(name)
        if reserved(safe):
            return (
                f"the folder of an OOD set must not be called like a set of our own; got {name!r}. Rename it"
            )
        return None
    return None if name in offered else must_be("an OOD set", name, offered) + _OR_PATH


def ood_problems(id_source: str, names: Iterable[str]) -> list[str]:
    """Everything wrong with a study's OOD sets, near and far together: each by itself, and repeated ones."""
    names = list(names)
    problems = [problem for name in names if (problem := ood_problem(id_source, name))]
    for safe, times in Counter(map(set_name, names)).items():
        if times > 1:
            same = [name for name in names if set_name(name) == safe]
            problems.append(
                f"near_ood and far_ood must name every set once, by different names; got {same!r}"
            )
    return problems


def must_be(what: str, name: str, offered: Iterable[str]) -> str:
    """A sentence that refuses ``name``, with the nearest word that is offered."""
    offered = list(offered)
    close = difflib.get_close_matches(name, offered, n=1)
    hint = f". Did you mean {close[0]!r}?" if close else ""
    return f"{what} must be one of {', '.join(offered)}; got {name!r}{hint}"


_OR_PATH = " (a path has a / in it, or starts with . or ~)"
