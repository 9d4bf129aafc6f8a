"""One driver a study on an object store, which has no locks: each driver keeps an object of its own fresh.

A driver writes its object first and looks at the others' then, so of two that come at once at least one sees
the other; whoever sees another that lives, goes. How old an object is, the store's own clock says: the own
object, just written, is the present. A dead driver of this machine is known to be dead at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.errors import StudyLocked
from orchestrator.objects import Objects
from orchestrator.process import Process

RENEW_SECONDS = 20.0
LIFE_SECONDS = 60.0
"""Without a renewal for so long, a driver is taken for dead."""
_LOOK_SECONDS = 2.0
_TRIES = 8
"""To be the first of several drivers that come at the same moment."""


@dataclass(frozen=True)
class _Rival:
    name: str
    at: float
    """When its object was written, by the store's clock."""
    held: bool
    """False: it is only asking yet."""
    process: Process

    @property
    def shown(self) -> str:
        return f"process {self.process.pid} on {self.process.host}"


class Lease:
    """A driver's right to work on a study.

    Args:
        folder: of the drivers' objects.
        say: told that another driver is waited for.
    """

    def __init__(
        self,
        objects: Objects,
        folder: str,
        say: Callable[[str], None] = lambda text: None,
        *,
        process: Process | None = None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._objects = objects
        self._folder = folder
        self._say = say
        self._process = process or Process.of(os.getpid())
        self._clock = clock
        self._pause = pause
        self._name = f"{uuid.uuid4().hex}.json"

    def claim(self) -> None:
        """Raises: StudyLocked where another driver works; as ``Objects.put``."""
        for _ in range(_TRIES):
            self._write(held=False)
            now, rivals = self._seen()
            if not rivals:
                self._write(held=True)
                return
            self.release()
            for rival in rivals:
                if rival.held:
                    self._outlive(rival, LIFE_SECONDS - (now - rival.at))
            if not any(rival.held for rival in rivals):
                self._pause(random.uniform(0.2, 1.5))
        raise StudyLocked(
            f"{self._where}: other drivers began with this study at the same moment ({rivals[0].shown}); "
            "nothing was changed. Run the command again where none of them works on it"
        )

    def renew(self) -> str:
        """Keep the lease; who else holds the study now, empty where nobody does. Raises: OSError."""
        _, rivals = self._seen()
        held = [rival for rival in rivals if rival.held]
        if held:
            return held[0].shown
        self._write(held=True)
        return ""

    def release(self) -> None:
        self._objects.delete(f"{self._folder}/{self._name}")

    @property
    def _where(self) -> str:
        return f"{self._objects.place}/{self._folder}".rpartition("/")[0]

    def _write(self, *, held: bool) -> None:
        text = json.dumps({"process": self._process.written(), "held": held})
        self._objects.put(f"{self._folder}/{self._name}", text.encode())

    def _seen(self) -> tuple[float, list[_Rival]]:
        """The present, and the other drivers that may live; those that surely do not are removed."""
        found = self._objects.listed(self._folder)
        now = (
            found[self._name].at if self._name in found else max((f.at for f in found.values()), default=0.0)
        )
        rivals = []
        for name, each in found.items():
            rival = self._read(name, each.at) if name != self._name else None
            if rival is None:
                continue
            if now - each.at >= LIFE_SECONDS or self._is_over(rival):
                self._objects.delete(f"{self._folder}/{name}")
            else:
                rivals.append(rival)
        return now, rivals

    def _read(self, name: str, at: float) -> _Rival | None:
        with contextlib.suppress(FileNotFoundError):
            record = json.loads(self._objects.get(f"{self._folder}/{name}"))
            return _Rival(name, at, bool(record["held"]), Process.read(record["process"]))
        return None

    def _is_over(self, rival: _Rival) -> bool:
        """Whether it is surely dead, or is this process before it began anew."""
        same = rival.process.host == self._process.host and rival.process.boot == self._process.boot
        return same and (rival.process == self._process or not rival.process.lives())

    def _outlive(self, rival: _Rival, seconds: float) -> None:
        """Wait until a driver of another machine is taken for dead.

        Raises: StudyLocked as soon as it shows that it lives.
        """
        if rival.process.host != self._process.host:
            self._say(
                f"{rival.shown} worked on this study a short while ago; it is taken for dead if it says "
                f"nothing for {max(seconds, 0):.0f} s more"
            )
            end = self._clock() + seconds
            while self._clock() < end:
                self._pause(_LOOK_SECONDS)
                found = self._objects.listed(self._folder).get(rival.name)
                if found is None:
                    return
                if found.at != rival.at:
                    break
            else:
                self._objects.delete(f"{self._folder}/{rival.name}")
                return
        raise StudyLocked(
            f"{self._where}: another driver works on this study ({rival.shown}); nothing was changed. "
            "Wait for it, stop it with Ctrl-C, or give this one another place with --out."
        )


def is_held(objects: Objects, folder: str) -> bool:
    """Whether a driver works on the study, as far as can be told: its lease is younger than its life."""
    found = objects.listed(folder)
    return any(time.time() - each.at < LIFE_SECONDS for each in found.values())
