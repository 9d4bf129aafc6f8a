"""What is seen of audits while a study runs, and that their files are watched as those of confirm trials."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.campaign.ledger import read_events
from orchestrator.campaign.record import StudyRecord, TrialRecord
from orchestrator.execution.display import Display
from orchestrator.execution.verification import verify
from orchestrator.study.spec import AuditSpec
from tests.orchestrator.simulation import Simulator, study
from workloads.contract import TrialResult
from workloads.protocols.folder import write_result

SPEC = study(audit=AuditSpec(1))


def test_the_live_table_and_the_plain_lines_tell_of_audits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = Simulator(SPEC, tmp_path).run()
    seen = StudyRecord()
    display = Display(SPEC, seen, plain=True)
    for event in read_events(tmp_path / "ledger.jsonl"):
        display.event(event)
        seen.apply(event)
    lines = capsys.readouterr().out
    for trial in (t for arm in record.arms.values() for t in arm.audit_trials):
        assert f"{trial.arm} audit #{trial.number} seed {trial.seed} complete" in lines
    console = Console(width=160, record=True)
    with console.capture() as shown:
        console.print(Display(SPEC, record, plain=True)._table())
    text = shown.get()
    assert "audited" in text
    assert text.count(" 2/2 ") == 3
    with console.capture() as shown:
        console.print(Display(study(), record, plain=True)._table())
    assert "audited" not in shown.get()


def test_an_audit_trial_whose_files_are_damaged_is_to_be_finished_once_more(tmp_path: Path) -> None:
    folder = tmp_path / "audit0"
    folder.mkdir()
    write_result(folder, "audit0", TrialResult({"noise/fpr95": 0.5}, 1.0, 1.0, 10), [])
    trial = TrialRecord("audit0", "hem", "audit", "standard", 3, 0, {}, state="complete")
    record = StudyRecord(trials={"audit0": trial})
    assert verify(record, tmp_path, 1).damaged == {}
    (folder / "result.json").unlink()
    assert set(verify(record, tmp_path, 1).damaged) == {"audit0"}
