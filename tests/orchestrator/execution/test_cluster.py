"""Reaching Ray, also from places that are not quite like home."""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import socket
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import ray
from ray import tune
from ray.tune.utils.object_cache import _ObjectCache

from orchestrator.campaign.campaign import Campaign
from orchestrator.campaign.record import StudyRecord
from orchestrator.errors import Unavailable
from orchestrator.execution import cluster
from orchestrator.execution.adapter import Bridge
from orchestrator.execution.display import Display
from orchestrator.execution.packing import Packing
from orchestrator.execution.trial import OUTCOME, UNSEEN, train
from orchestrator.execution.workers import KeptWorkers
from orchestrator.study.spec import ResourcesSpec
from orchestrator.tracking.store import free_port
from tests.orchestrator.simulation import study


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS"):
        # Put back at the end, whoever sets it.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_without_a_home_folder_ray_gets_a_token_of_its_own_for_this_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "nowhere"))
    cluster._require_private_token()
    token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
    assert len(token.read_text()) == 64
    assert token.stat().st_mode & 0o777 == 0o600
    assert token.parent.stat().st_mode & 0o077 == 0, "others must not read the token"
    assert list(token.parent.iterdir()) == [token]


def test_in_a_home_folder_the_token_is_made_once_and_for_this_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    cluster._require_private_token()
    token = tmp_path / ".ray" / "auth_token"
    first = token.read_text()
    assert len(first) == 64
    assert token.stat().st_mode & 0o777 == 0o600
    assert list(token.parent.iterdir()) == [token]
    cluster._require_private_token()
    assert token.read_text() == first
    assert "RAY_AUTH_TOKEN_PATH" not in os.environ
    with pytest.raises(FileExistsError):
        cluster._write_token(token)
    assert list(token.parent.iterdir()) == [token]


@pytest.mark.parametrize("name", ["RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"])
def test_a_token_of_the_users_own_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "nowhere"))
    monkeypatch.setenv(name, "the user's own")
    cluster._require_private_token()
    assert {n: os.environ.get(n) for n in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")} == {
        **dict.fromkeys(("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")),
        name: "the user's own",
    }


def test_only_a_local_cluster_is_kept_to_the_loopback_address(monkeypatch: pytest.MonkeyPatch) -> None:
    switch = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
    for name in (*cluster._QUIET, switch):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    cluster.prepare("10.0.0.1:6379")
    assert switch not in os.environ
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    cluster.prepare(None)
    assert switch not in os.environ
    monkeypatch.delenv("RAY_ADDRESS")
    cluster.prepare(None)
    assert os.environ[switch] == "0"
    monkeypatch.setenv(switch, "1")
    cluster.prepare(None)
    assert os.environ[switch] == "1", "the user asked for it"


def test_machines_are_those_alive_now_and_looked_up_every_few_seconds_alone() -> None:
    def node(cpus: float, gpus: float = 0.0, alive: bool = True) -> dict[str, Any]:
        return {"Alive": alive, "Resources": {"CPU": cpus, **({"GPU": gpus} if gpus else {})}}

    now, asked = [0.0], [0]
    nodes = [node(1.0), node(4.0, 2.0)]

    def look() -> list[dict[str, Any]]:
        asked[0] += 1
        return nodes

    machines = cluster.Machines(look, lambda: now[0])
    assert machines() == [(1.0, 0.0), (4.0, 2.0)]
    nodes[1]["Alive"] = False
    nodes.append(node(8.0, 0.5))
    now[0] = 2.9
    assert machines() == [(1.0, 0.0), (4.0, 2.0)]
    assert asked == [1]
    now[0] = 3.0
    assert machines() == [(1.0, 0.0), (8.0, 0.5)]
    assert asked == [2]


def test_what_ray_prints_of_its_own_accord_goes_to_its_logger(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    from ray._private import worker

    # Put back at the end.
    monkeypatch.setattr(worker, "print_to_stdstream", worker.print_to_stdstream)
    logger = logging.getLogger("ray")
    monkeypatch.setattr(logger, "propagate", True)
    cluster._hush()
    with caplog.at_level(logging.WARNING, "ray"):
        worker.print_to_stdstream(
            {"lines": ["a page"], "pid": "raylet", "is_err": False}, ignore_prefix=False
        )
    assert {record.message for record in caplog.records if record.name == "ray"} == {"a page"}
    assert capfd.readouterr().out == ""


def test_an_address_where_nothing_listens_is_refused_within_seconds() -> None:
    address = f"127.0.0.1:{free_port('127.0.0.1')}"
    with pytest.raises(Unavailable, match=r"no Ray cluster answers at .*nothing was run") as found:
        cluster._require_answer(address)
    assert found.value.exit_code == 2


def test_an_address_where_something_listens_and_a_word_for_ray_pass() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(5)
        cluster._require_answer(f"ray://127.0.0.1:{listening.getsockname()[1]}")
        knocked, _ = listening.accept()
        with knocked:
            assert knocked.getsockname() == listening.getsockname()
    cluster._require_answer("auto")


def test_ray_shuts_down_with_no_garbage_left_and_none_collected_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A reference of Ray that another thread collects at that moment ends the process with status 1."""

    class Cycle:
        def __init__(self) -> None:
            self.itself = self

    seen: list[tuple[bool, bool]] = []
    garbage: list[weakref.ref[Cycle]] = []
    monkeypatch.setattr(ray, "init", lambda **_: None)
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 2.0}}])
    monkeypatch.setattr(ray, "shutdown", lambda: seen.append((gc.isenabled(), garbage[0]() is None)))
    with cluster.connect(None) as found:
        assert (found.address, found.machines()) == ("local", [(2.0, 0.0)])
        garbage.append(weakref.ref(Cycle()))
    assert seen == [(False, True)]
    assert gc.isenabled()


def test_signals_are_handled_as_before_when_ray_has_reset_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's core does, on its way to the end of its processes, which takes a second."""
    seen: list[Any] = []

    class Node:
        def kill_all_processes(self, *, allow_graceful: bool) -> None:
            seen.extend([signal.getsignal(signal.SIGTERM), allow_graceful])

    def shutdown() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        node.kill_all_processes(allow_graceful=True)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def handle(*_: object) -> None:
        """What a study does."""

    node = Node()
    monkeypatch.setattr(ray, "init", lambda **_: None)
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 2.0}}])
    monkeypatch.setattr(ray, "shutdown", shutdown)
    monkeypatch.setattr(ray._private.worker, "_global_node", node)
    before = signal.signal(signal.SIGTERM, handle)
    try:
        with cluster.connect(None):
            pass
        assert seen == [handle, True]
        assert signal.getsignal(signal.SIGTERM) is handle
        node.kill_all_processes(allow_graceful=False)
        assert seen[2:] == [handle, False], "outside, Ray's own again"
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_machine_too_busy_for_ray_to_start_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: Any) -> None:
        # Ray's own words, of its version 2.60; a bare Exception.
        raise Exception("The current node timed out during startup. This could happen because ...")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(Unavailable, match="did not start within 30 s: this machine is very busy"):
        cluster.connect(None).__enter__()

    def fail(**_: Any) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(RuntimeError, match="something else"):
        cluster.connect(None).__enter__()


def test_no_trial_is_asked_for_while_the_cluster_has_no_room_and_tune_is_not_told_that_all_is_done() -> None:
    request = SimpleNamespace(key="k", attempt=1)
    campaign = SimpleNamespace(
        spec=SimpleNamespace(execution=SimpleNamespace(time_limit=None)),
        next_trial=lambda: request,
        done=False,
    )
    asked: list[list[float]] = []
    room = [True]

    def has_room(shares: list[float]) -> bool:
        asked.append(shares)
        return room[0]

    payload = {"folder": "trials/k", "resources": {"cpu": 1.0, "gpu": 0.25}}
    bridge = Bridge(
        cast(Campaign, campaign),
        lambda _: payload,
        lambda: False,
        lambda: 0.0,
        lambda _: None,
        cast(Packing, None),
        has_room,
        lambda: 7,
    )
    assert bridge.suggest("a") == payload
    room[0] = False
    assert bridge.suggest("b") is None
    assert asked == [[], [0.25]]
    assert bridge.slots() == 7


def test_nodes_that_join_bring_room_for_more_kept_workers_and_those_that_leave_take_none_away() -> None:
    cache = _ObjectCache(may_keep_one=True)
    controller = SimpleNamespace(_tune_controller=SimpleNamespace(_actor_cache=cache))
    slots = [2]
    kept = KeptWorkers(lambda: slots[0])
    for now, most in ((2, 2), (5, 5), (1, 5), (6, 6)):
        slots[0] = now
        kept.begun(controller, "a", "one cpu")
        assert cache.total_max_objects == most


def test_a_worker_that_cannot_see_the_studys_folder_says_so_and_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(tune, "report", sent.append)
    folder = tmp_path / "elsewhere" / "trials" / "k"
    train({"folder": str(folder), "attempt": 1, "time_limit": 5.0})
    outcome = json.loads(sent[0][OUTCOME])
    assert sent[0]["done"]
    assert outcome["kind"] == UNSEEN
    assert f"cannot see {folder.parent}" in outcome["reason"]
    assert list(tmp_path.iterdir()) == []


def test_the_display_says_how_many_trials_fit_whenever_that_changes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    display = Display(study(), StudyRecord.fold([]), plain=True)
    display.running(2)
    for slots in (2, 3, 3, 0, 1):
        display.resized(slots)
    assert [line.split(None, 1)[1] for line in capsys.readouterr().out.splitlines()] == [
        "Ray is up; 2 trials side by side",
        "the cluster has changed; now 3 trials side by side",
        "no node of the cluster has room for a trial; waiting for one to join (Ctrl-C stops)",
        "the cluster has changed; now 1 trial side by side",
    ]


def test_with_automatic_packing_the_number_is_the_least_that_fits(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display(study(resources=ResourcesSpec(1, "auto")), StudyRecord.fold([]), plain=True)
    display.running(2)
    assert capsys.readouterr().out.rstrip().endswith("Ray is up; at least 2 trials side by side")
