from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from orchestrator.cli import main
from orchestrator.tracking.tracker import make_writer
from orchestrator.tracking.whereabouts import FILE, Whereabouts, note, recall

from .material import SPEC


def test_what_was_noted_is_recalled(tmp_path: Path) -> None:
    where = Whereabouts("https://mlflow.example:5000", "7")
    note(tmp_path, where)
    assert recall(tmp_path) == where
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_nothing_is_recalled_where_nothing_or_nonsense_was_noted(tmp_path: Path) -> None:
    assert recall(tmp_path) is None
    for text in ("", "[]", '{"uri": "x"}', "null"):
        (tmp_path / FILE).write_text(text)
        assert recall(tmp_path) is None


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    note(tmp_path / "gone", Whereabouts("sqlite:///x.db", "1"))
    assert not (tmp_path / "gone").exists()


def test_a_server_has_a_page_of_the_runs_and_a_file_has_none() -> None:
    wanted = "tags.`orchestrate.arm` = 'a' AND tags.`orchestrate.regime` = 'long_tailed/drw'"
    url = Whereabouts("https://mlflow.example/base/", "7").url(wanted)
    assert url is not None
    parts = urlsplit(urlsplit(url).fragment)
    assert not set(url) & set(" `'")
    assert url.startswith("https://mlflow.example/base/#/experiments/7/runs?")
    assert parts.path == "/experiments/7/runs"
    query = parse_qs(parts.query)
    assert query["searchFilter"] == [wanted]
    # Sorted by time, MLflow would show the folded parents alone.
    assert query["orderByKey"] == ["attributes.run_name"]
    assert query["workflowType"] == ["machine_learning"]
    assert Whereabouts("sqlite:////tmp/mlflow.db", "7").url(wanted) is None


def test_opening_a_store_notes_where_it_is_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = SimpleNamespace(MlflowWriter=lambda *_: SimpleNamespace(experiment_id="42"))
    # The real one takes seconds to load; its own tests hold it against MLflow.
    monkeypatch.setitem(sys.modules, "orchestrator.tracking.writer", opened)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    make_writer(SPEC, tmp_path, "https://me:secret@mlflow.example", None)()
    assert recall(tmp_path) == Whereabouts("https://mlflow.example", "42")


def test_the_ui_points_out_the_arms_of_every_study_in_its_store_and_of_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    (tmp_path / "mlflow.db").touch()
    for name, uri in (("one", store), ("two", store), ("elsewhere", "https://mlflow.example")):
        (tmp_path / name).mkdir()
        note(tmp_path / name, Whereabouts(uri, str(len(name))))
    started: list[Any] = []
    monkeypatch.setattr("os.execve", lambda *given: started.append(given))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    main(["ui", "--out", str(tmp_path), "--port", "5001"])
    first, *pages = capsys.readouterr().out.splitlines()
    assert first.startswith("MLflow UI on http://127.0.0.1:5001 (store: ")
    assert [line.split(":")[0].strip() for line in pages] == ["the arms of one", "the arms of two"]
    assert all("http://127.0.0.1:5001/#/experiments/3/runs?" in line for line in pages)
    assert all(line.endswith("&compareRunsMode=CHART") for line in pages)
    ((_, _, environment),) = started
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
