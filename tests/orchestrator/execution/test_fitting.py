"""What is said of arms and regimes once the data are read, before anything runs."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.campaign.ledger import read_events
from orchestrator.errors import StudyFailed, Unavailable
from orchestrator.execution import cluster, recording, session
from orchestrator.execution.session import run_study
from orchestrator.execution.study_run import Reported, StudyRun
from orchestrator.study.spec import (
    ArmSpec,
    ConfirmSpec,
    ProtocolSpec,
    ReportSpec,
    ResourcesSpec,
    SearchSpec,
    StudySpec,
)
from tests.workloads.data.making import write_set
from workloads.catalogue import Term
from workloads.contract import DataConfig, ModelConfig, NoiseConfig
from workloads.protocol_config import ContinualConfig, LongTailedConfig

LR = {"lr": Term("fixed", (0.1,))}
ARMS = {name: ArmSpec(name, name, LR) for name in ("cross_entropy", "ldam")}


class Silent:
    """A tracker that records nothing."""

    writer, trouble = None, ""

    def __init__(self, *_: Any) -> None: ...

    def start(self, history: Any) -> None: ...

    def put(self, event: Any) -> None: ...

    def drain(self, seconds: float, *_: Any) -> bool:
        return True


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without MLflow and Ray; where trials would begin the session ends, and the study is not done."""

    @contextlib.contextmanager
    def connect(_: str | None, **__: Any) -> Iterator[cluster.Cluster]:
        machine = {"Alive": True, "Resources": {"CPU": 2.0}}
        yield cluster.Cluster("local", cluster.Machines(lambda: [machine]))

    monkeypatch.setattr(cluster, "connect", connect)
    monkeypatch.setattr(session, "check_store", lambda uri: uri)
    monkeypatch.setattr(recording, "Tracker", Silent)
    monkeypatch.setattr(session._Session, "_tune", lambda self, machines: False)


def study(tmp_path: Path, **changes: Any) -> StudySpec:
    """Over a folder of 3 classes with 10 training images each, which no file of the study says."""
    if not (tmp_path / "images").exists():
        write_set(tmp_path / "images", shape=(1, 8, 8))
    spec = StudySpec(
        name="fitted",
        data=DataConfig(str(tmp_path / "images"), far_ood=("uniform",)),
        model=ModelConfig("small_cnn_8x8"),
        arms=ARMS,
        noise=NoiseConfig(size=10),
        search=SearchSpec(seeds=(0,)),
        confirm=ConfirmSpec((100,)),
        report=ReportSpec(("test/accuracy",)),
    )
    return dataclasses.replace(spec, **changes)


def run(spec: StudySpec, out: Path) -> None:
    def report(*_: Any) -> Reported:
        raise AssertionError("there is nothing to report")

    given = {"sources": out, "address": None, "fresh": False, "plain": True, "command": ["orchestrate"]}
    run_study(StudyRun(spec, out, report=report, **given))  # type: ignore[arg-type]


def events(out: Path) -> list[dict[str, Any]]:
    return list(read_events(out / "fitted" / "ledger.jsonl"))


def test_settings_that_no_loss_could_be_trained_with_are_all_said_once_and_nothing_runs(
    tmp_path: Path,
) -> None:
    protocols = {
        "standard": ProtocolSpec("standard"),
        "tail": ProtocolSpec("long_tailed", ("plain", "drw"), LongTailedConfig(factor=50.0)),
        "stream": ProtocolSpec("continual", ("naive", "lwf"), ContinualConfig(tasks=2)),
        "kept": ProtocolSpec(
            "continual",
            ("naive", "replay"),
            ContinualConfig("naive", "domain_il", "rotated", tasks=2, buffer=49),
        ),
        "turned": ProtocolSpec("continual", ("naive",), ContinualConfig("naive", "domain_il", "rotated")),
    }
    with pytest.raises(Unavailable) as refused:
        run(study(tmp_path, protocols=protocols), tmp_path)
    # 10 images a class, a fifth of them for validation: 8, 1 and 0 stay of factor 50; 24 images a task.
    assert str(refused.value).splitlines() == [
        "protocols.tail: a long tail of profile exp and factor 50.0 leaves class 2 without an image. The "
        "largest whole factor that these classes allow is 8",
        "protocols.stream: 3 classes cannot be cut into 2 tasks of equal size. No number of tasks works for "
        "3 classes in class_il",
        "protocols.kept: buffer must be at most the images of the stream (48): a larger one is joint "
        "training; got 49",
        "Nothing was run.",
    ]
    assert events(tmp_path) == []


def test_an_arm_that_fits_no_regime_ends_the_session_and_nothing_runs(tmp_path: Path) -> None:
    tail = ProtocolSpec("long_tailed", ("drw", "class_balanced"), LongTailedConfig(factor=4.0))
    with pytest.raises(Unavailable) as refused:
        run(study(tmp_path, protocols={"long_tailed": tail}), tmp_path)
    first, *rest = str(refused.value).splitlines()
    assert first.startswith("arms.ldam: fits none of the study's protocols: the loss re-weights classes by")
    assert rest == ["Nothing was run."]
    assert events(tmp_path) == []


def test_a_regime_that_one_loss_does_not_fit_is_on_record_once_however_often_a_study_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    protocols = {
        "standard": ProtocolSpec("standard"),
        "long_tailed": ProtocolSpec("long_tailed", ("plain", "drw"), LongTailedConfig(factor=4.0)),
    }
    spec = study(tmp_path, protocols=protocols)
    for _ in range(2):
        with pytest.raises(StudyFailed):
            run(spec, tmp_path)
    kinds = [event["event"] for event in events(tmp_path)]
    assert kinds == ["opened", "skipped", "closed", "opened", "closed"]
    skipped = events(tmp_path)[1]
    assert (skipped["arm"], skipped["regime"]) == ("ldam", "long_tailed/drw")
    said = f"ldam: not trained in long_tailed/drw: {skipped['reason']}"
    assert capsys.readouterr().out.count(said) == 1


def test_what_needs_more_gpus_than_a_node_has_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [{"Alive": True, "Resources": {"CPU": 8.0, "GPU": 1.0}}] * 2

    @contextlib.contextmanager
    def connect(_: str | None, **__: Any) -> Iterator[cluster.Cluster]:
        yield cluster.Cluster("local", cluster.Machines(lambda: nodes))

    monkeypatch.setattr(cluster, "connect", connect)
    with pytest.raises(Unavailable) as refused:
        run(study(tmp_path, resources=ResourcesSpec(1, 2.0)), tmp_path)
    said = "no trial fits on a node of the cluster: a trial wants 1 CPUs and 2 GPUs"
    assert str(refused.value).startswith(said)
    assert "the nodes are: 2 of 8 CPUs and 1 GPUs; nothing was run" in str(refused.value)
    assert [event["event"] for event in events(tmp_path)] == ["opened"]
