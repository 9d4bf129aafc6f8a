"""An older study is put aside on a store: copied there object by object under another name, then deleted.

A mark says where to, until the last object has moved; whoever finds it finishes the move first.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from orchestrator.objects import Objects

_MARK = "moving-to"
_SIDE_BY_SIDE = 8


def move_aside(objects: Objects, study: str, *, skip: str) -> str:
    """Move all of a study but one folder; the new name. Raises: Refused; OSError.

    Args:
        skip: the folder that stays.
    """
    taken = set(objects.folders())
    stem = f"{study}.{time.strftime('%Y%m%d-%H%M%S')}"
    names = (stem, *(f"{stem}-{number}" for number in range(2, 1000)))
    aside = next(name for name in names if name not in taken)
    objects.put(f"{study}/{_MARK}", aside.encode())
    finish_moving(objects, study, skip=skip)
    return aside


def finish_moving(objects: Objects, study: str, *, skip: str) -> None:
    """Finish a move that was begun; nothing where none was. Raises: Refused; OSError."""
    try:
        aside = objects.get(f"{study}/{_MARK}").decode()
    except FileNotFoundError:
        return
    names = [n for n in objects.listed(study) if n != _MARK and not n.startswith(f"{skip}/")]

    def move(name: str) -> None:
        objects.copy(f"{study}/{name}", f"{aside}/{name}")
        objects.delete(f"{study}/{name}")

    if names:
        with ThreadPoolExecutor(min(_SIDE_BY_SIDE, len(names))) as pool:
            list(pool.map(move, names))
    objects.delete(f"{study}/{_MARK}")
