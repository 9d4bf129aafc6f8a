"""Jobs in the background of this machine, with commands that are quicker than a study."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.errors import Unavailable
from orchestrator.process import Process
from orchestrator.submission import local
from orchestrator.submission.job import Status
from orchestrator.submission.profile import Profile
from tests.orchestrator.submission.cases import job, placed

PROFILE = Profile("local", "local")
LISTENS = """\
import signal, sys, time
def stop(*_):
    print("stopping", flush=True)
    sys.exit(130)
signal.signal(signal.SIGTERM, stop)
print("listens", flush=True)
while True:
    time.sleep(0.01)
"""


class Background:
    """Starts jobs, and leaves none behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[str] = []

    def __call__(self, program: str, profile: Profile = PROFILE) -> str:
        folder = self.folder / f"job {len(self.started)}"
        made = job(folder, (sys.executable, "-c", program), profile)
        native = local.submit(made, placed(dict(local.render(made)), folder))
        self.started.append(native)
        return native

    def close(self) -> None:
        for native in self.started:
            with contextlib.suppress(ProcessLookupError, OSError, ValueError):
                os.killpg(Process.read((Path(native) / "process.json").read_text()).pid, signal.SIGKILL)


@pytest.fixture
def background(tmp_path: Path) -> Iterator[Background]:
    started = Background(tmp_path)
    yield started
    started.close()


def until(ready: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def printed(native: str) -> str:
    return "".join(local.logs(native, PROFILE, follow=False))


def over(native: str) -> Status:
    until(lambda: local.status(native, PROFILE).over)
    return local.status(native, PROFILE)


@pytest.mark.parametrize(
    ("code", "state"), [(0, "done"), (1, "failed"), (2, "failed"), (130, "stopped"), (143, "stopped")]
)
def test_the_exit_status_says_how_a_job_ended(code: int, state: str, background: Background) -> None:
    native = background(f"print('out', flush=True); import os; os.write(2, b'err'); raise SystemExit({code})")
    assert over(native) == Status(state, "" if code == 0 else f"exit status {code}")  # type: ignore[arg-type]
    assert printed(native) == "out\nerr"


def test_a_job_runs_in_a_session_of_its_own_with_nothing_to_read(background: Background) -> None:
    native = background(f"import os, sys; print(os.getsid(0) != {os.getsid(0)}, repr(sys.stdin.read()))")
    over(native)
    assert printed(native) == "True ''\n"


def test_cancel_stops_a_job_through_its_own_handler_and_waits(background: Background) -> None:
    native = background(LISTENS)
    until(lambda: "listens" in printed(native))
    assert local.status(native, PROFILE).state == "running"
    local.cancel(native, PROFILE)
    assert local.status(native, PROFILE) == Status("stopped", "exit status 130")
    assert printed(native).count("stopping") == 1, "one signal, or a study would not stop cleanly"
    local.cancel(native, PROFILE)


def test_a_job_that_is_cancelled_before_its_command_begins_does_not_run_it(background: Background) -> None:
    hurdle = background.folder / "hurdle"
    waits = (f"touch '{hurdle}.there'; while [ ! -e '{hurdle}' ]; do sleep 0.02; done",)
    native = background("print('ran')", Profile("local", "local", setup=waits))
    until(Path(f"{hurdle}.there").exists)
    os.kill(Process.read((Path(native) / "process.json").read_text()).pid, signal.SIGTERM)
    hurdle.touch()
    assert over(native) == Status("stopped", "exit status 143")
    assert printed(native) == ""


def test_a_job_that_does_not_stop_is_reported(
    background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_PATIENCE_SECONDS", 0.3)
    native = background("import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True)\n"
                        "while True: time.sleep(0.01)")  # fmt: skip
    until(lambda: "deaf" in printed(native))
    with pytest.raises(Unavailable, match=r"was told to stop, and had not after 0\.3 s"):
        local.cancel(native, PROFILE)
    assert local.status(native, PROFILE).state == "running"


def test_a_job_that_was_killed_has_failed(background: Background) -> None:
    native = background(LISTENS)
    until(lambda: "listens" in printed(native))
    os.killpg(Process.read((Path(native) / "process.json").read_text()).pid, signal.SIGKILL)
    status = over(native)
    assert (status.state, status.detail[:22]) == ("failed", "it ended without a wor")


def test_another_process_with_the_same_number_is_never_taken_for_the_job(background: Background) -> None:
    native = background("pass")
    over(native)
    (Path(native) / "exit-status").unlink()
    mine = Process.of(os.getpid())
    for other in (
        Process(mine.pid, "1", mine.boot, mine.host),
        Process(mine.pid, mine.started, "another start of the machine", mine.host),
    ):
        (Path(native) / "process.json").write_text(other.written())
        assert local.status(native, PROFILE).state == "failed"
        local.cancel(native, PROFILE)  # or this very test would be stopped
    (Path(native) / "process.json").write_text(mine.written())
    assert local.status(native, PROFILE).state == "running"


def test_a_job_of_another_machine_is_not_judged_from_here(background: Background) -> None:
    native = background("pass")
    over(native)
    mine = Process.of(os.getpid())
    (Path(native) / "process.json").write_text(
        Process(mine.pid, mine.started, mine.boot, "elsewhere").written()
    )
    assert local.status(native, PROFILE).state == "done", "its exit status is known everywhere"
    (Path(native) / "exit-status").unlink()
    assert local.status(native, PROFILE) == Status("unknown", "it was started on elsewhere: ask there")
    with pytest.raises(Unavailable, match="started on elsewhere"):
        local.cancel(native, PROFILE)


def test_logs_follow_until_the_job_is_over(background: Background) -> None:
    gate = background.folder / "gate"
    native = background(f"import os, time; print('a', flush=True)\n"
                        f"while not os.path.exists({str(gate)!r}): time.sleep(0.01)\nprint('b')")  # fmt: skip
    pieces = local.logs(native, PROFILE, follow=True)
    text = next(pieces)
    assert text == "a\n"
    gate.touch()
    assert "".join(pieces) == "b\n"


def test_what_must_be_forwarded_must_be_there(
    background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MY_SECRET", raising=False)
    profile = Profile("local", "local", forward=("MY_SECRET",))
    with pytest.raises(Unavailable, match="forward: MY_SECRET not set here; nothing was submitted"):
        background("pass", profile)
    monkeypatch.setenv("MY_SECRET", "open sesame")
    native = background("import os; print(len(os.environ['MY_SECRET']))", profile)
    over(native)
    assert printed(native) == "11\n"
    assert not any(b"open sesame" in f.read_bytes() for f in Path(native).iterdir())


def test_a_job_whose_process_is_not_known_is_reported(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"process\.json: cannot be read"):
        local.status(str(tmp_path), PROFILE)
    with pytest.raises(Unavailable, match="has no log"):
        printed(str(tmp_path))
