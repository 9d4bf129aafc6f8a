"""The command line: exit codes, messages, wiring, and what it does not import."""

from __future__ import annotations

import dataclasses
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator import cli
from orchestrator.campaign.ledger import Ledger
from orchestrator.campaign.record import StudyRecord, TrialRecord
from orchestrator.cli import main
from orchestrator.commands.results import summaries
from orchestrator.errors import Interrupted, OrchestrateError, StudyFailed, StudyLocked
from orchestrator.execution import session
from orchestrator.execution.lock import DriverLock
from orchestrator.execution.study_run import StudyRun
from orchestrator.study.dump import to_yaml
from orchestrator.tracking import store
from workloads.losses.catalogue import LOSSES

from .bad_studies import GOOD
from .simulation import PROTOCOLS
from .test_status import EVENTS, STUDY, finished, started

ROOT = Path(__file__).resolve().parents[2]
QUICK = str(ROOT / "studies" / "quickstart.yaml")


@pytest.fixture
def good(tmp_path: Path) -> str:
    file = tmp_path / "good.yaml"
    file.write_text(GOOD)
    return str(file)


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """An output folder with one stopped study in it, called small."""
    folder = tmp_path / "runs" / "small"
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text(to_yaml(STUDY))
    ledger = Ledger(folder / "ledger.jsonl")
    for event in EVENTS:
        ledger.append(dict(event))
    ledger.close()
    return folder


# -- light ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["validate", QUICK], ["plan", QUICK], ["list"], ["status", "small"]],
    ids=lambda a: a[0],
)
def test_a_light_command_imports_nothing_heavy(arguments: list[str], ran: Path) -> None:
    if arguments[0] in ("plan", "status"):
        arguments = [*arguments, "--out", str(ran.parent)]
    program = (
        "import sys\nfrom orchestrator.cli import main\n"
        f"status = main({arguments!r})\n"
        "heavy = {'torch', 'ray', 'numpy', 'mlflow', 'scipy', 'optuna', 'sklearn', 'matplotlib'}\n"
        "print(sorted(heavy & set(sys.modules)), status, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stderr == "[] 0\n"


def test_regimes_are_checked_and_planned_without_torch(tmp_path: Path) -> None:
    file = tmp_path / "regimes.yaml"
    stream = "{protocol: continual, stream: rotated, scenario: domain_il, tasks: 3}"
    file.write_text(f"{GOOD}protocols: {{standard: , long_tailed: {{factor: 10}}, turned: {stream}}}\n")
    program = (
        "import sys\nfrom orchestrator.cli import main\n"
        f"status = main(['validate', {str(file)!r}]) + main(['plan', {str(file)!r}])\n"
        "print(sorted({'torch', 'ray', 'mlflow', 'optuna'} & set(sys.modules)), status, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stderr == "[] 0\n"
    assert "in each of standard, long_tailed/plain, turned/naive" in " ".join(done.stdout.split())


# -- words --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["studdy", "x.yaml"], "there is no command 'studdy'. Did you mean 'study'?"),
        (["studies/quickstart.yaml"], "Did you mean: orchestrate study studies/quickstart.yaml"),
        (["study", "x.yaml", "--frehs"], "unrecognized arguments: --frehs. Did you mean '--fresh'?"),
        (["list", "loses"], "there is no catalogue 'loses'. Did you mean 'losses'?"),
        (["study", "x.yaml", "--max-concurrent", "0"], "at least 1; got '0'"),
        (["study"], "required: STUDY"),
        ([], "required: COMMAND"),
    ],
)
def test_a_mistyped_command_line_exits_with_2_and_a_hint(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert says in capsys.readouterr().err


def test_help_and_version_exit_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("orchestrate ")


# -- errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (StudyLocked("somebody works on it"), 2, "somebody works on it\n"),
        (StudyFailed("an arm has no result"), 1, "an arm has no result\n"),
        (Interrupted("go on with: x"), 130, "go on with: x\n"),
        (KeyboardInterrupt(), 130, ""),
        (RuntimeError("odd"), 1, "unexpected RuntimeError: odd. Run again with --debug for the traceback"),
    ],
)
def test_an_error_becomes_a_message_and_an_exit_code_without_a_traceback(
    error: BaseException,
    status: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_: object) -> int:
        raise error

    monkeypatch.setitem(cli.COMMANDS, "validate", fail)
    assert main(["validate", "x.yaml"]) == status
    message = capsys.readouterr().err
    assert says in message
    assert "Traceback" not in message
    if isinstance(error, OrchestrateError):
        assert message == says


@pytest.mark.parametrize("words", [["--debug", "validate", "x"], ["validate", "x", "--debug"]])
def test_debug_shows_the_traceback_wherever_it_stands(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> int:
        raise RuntimeError("odd")

    monkeypatch.setitem(cli.COMMANDS, "validate", fail)
    assert main(words) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_reader_that_closes_the_pipe_ends_the_command_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", "list"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


# -- commands ----------------------------------------------------------------------------------------------


def test_list_shows_every_entry_and_parameter_of_every_catalogue(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    everything = capsys.readouterr().out
    for title in ("Losses", "Models", "Data", "Scores", "Samplers", "Pruners"):
        assert f"\n{title}\n" in f"\n{everything}"
    assert main(["list", "losses"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.strip() for line in lines if line.startswith("  ") and line[2] != " "] == list(LOSSES)
    tau = next(line for line in lines if line.strip().startswith("tau "))
    assert tau.split()[:2] == ["tau", "0.04"]
    assert "log-uniform 0.005 .. 0.2" in tau
    assert "(above 0)" in tau
    for entry in LOSSES.values():
        for name, parameter in entry.parameters.items():
            for flat in (name, *(f"{name}.{word}" for word in parameter.expressions)):
                assert any(line.strip().startswith(f"{flat} ") for line in lines), flat
    assert max(map(len, lines)) <= 110
    families = list(dict.fromkeys(entry.family for entry in LOSSES.values()))
    assert [line for line in lines if line and line[0] != " "] == ["Losses", *families, "Beside any of these"]


def test_list_shows_one_entry_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "losses", "arcface"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("  arcface\n")
    assert "Deng et al. 2019" in shown
    assert "cosface" not in shown
    assert main(["list", "losses", "arcfase"]) == 2
    assert "losses has no 'arcfase'. Did you mean 'arcface'?" in capsys.readouterr().err


def test_study_hands_everything_over_and_names_the_command_that_goes_on(
    good: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[StudyRun] = []
    monkeypatch.setattr(session, "run_study", given.append)
    words = [
        "study",
        good,
        "--out",
        "my runs",
        "--fresh",
        "--plain",
        "--address",
        "a:1",
        "--max-concurrent",
        "3",
    ]
    assert main(words) == 0
    (run,) = given
    assert (run.spec.name, run.spec.execution.max_concurrent) == ("small", 3)
    assert (run.out, run.address, run.fresh, run.plain) == (Path("my runs"), "a:1", True, True)
    again = f"orchestrate study {good} --out 'my runs' --plain --address a:1 --max-concurrent 3"
    assert " ".join(run.command) == again


def test_the_summary_of_an_arm_holds_mean_and_deviation_over_its_finished_confirm_trials() -> None:
    record = StudyRecord.fold(EVENTS)
    arm = record.arms["logitnorm"]
    for seed, (state, accuracy) in enumerate([("complete", 0.5), ("complete", 0.75), ("failed", 0.0)]):
        trial = record.trials["abcd"[seed]]
        trial.state, trial.metrics = state, {"test/accuracy": accuracy}  # type: ignore[assignment]
        arm.confirms.setdefault("standard", {})[seed] = trial
    # Two values a and b: the deviation with ddof 1 is |a - b| / sqrt(2).
    expected = {"test/accuracy": 0.625, "std/test/accuracy": pytest.approx(0.25 / 2**0.5)}
    assert summaries(STUDY, record) == {"cross_entropy": {}, "logitnorm": expected}


def test_the_summary_names_the_regime_where_a_metric_alone_means_anothers() -> None:
    spec = dataclasses.replace(STUDY, protocols=PROTOCOLS)
    record = StudyRecord()
    record.apply(EVENTS[0])
    metrics = {
        "standard": {"test/accuracy": 0.5, "validation/accuracy": 0.75},
        "long_tailed/plain": {"test/accuracy": 0.25, "imbalance/g_mean": 0.125},
        "long_tailed/drw": {"imbalance/g_mean": 1.0},
        "continual/naive": {"continual/class_il/bwt": -0.5},
    }
    for regime, measured in metrics.items():
        trial = TrialRecord(regime, "logitnorm", "confirm", "any", 0, 100, {}, regime, "complete")
        trial.metrics = measured
        record.arms["logitnorm"].confirms[regime] = {100: trial}
    assert summaries(spec, record)["logitnorm"] == {
        "test/accuracy": 0.5,
        "long_tailed/plain/test/accuracy": 0.25,
        "imbalance/g_mean": 0.125,
        "long_tailed/drw/imbalance/g_mean": 1.0,
        "continual/class_il/bwt": -0.5,
    }


def test_plan_takes_no_trial_of_another_regime_for_a_full_one(
    ran: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = {**started("other", "logitnorm", 0, "confirm", 100), "regime": "long_tailed/plain"}
    ledger = Ledger(ran / "ledger.jsonl")
    for event in (other, {**finished("other", "complete"), "seconds": 1000.0}):
        ledger.append(event)
    ledger.close()
    assert main(["plan", str(ran / "study.yaml"), "--out", str(ran.parent)]) == 0
    assert "logitnorm 2 s" in capsys.readouterr().out


def test_plan_uses_the_seconds_of_a_study_that_has_run(ran: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(ran / "study.yaml"), "--out", str(ran.parent)]) == 0
    assert "logitnorm 2 s" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["small", "folder", "file"])
def test_a_study_that_ran_is_found_by_name_folder_or_file(
    name: str, ran: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = {"small": "small", "folder": str(ran), "file": str(ran / "study.yaml")}[name]
    assert main(["status", named, "--out", str(ran.parent)]) == 0
    output = capsys.readouterr()
    assert output.out.startswith("Study small: stopped\n")
    assert output.err == ""


def test_status_sees_the_driver_at_work(ran: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = (
        "import sys, pathlib\nfrom orchestrator.execution.lock import DriverLock\n"
        f"with DriverLock(pathlib.Path({str(ran)!r})):\n"
        "    print('held', flush=True)\n    sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == b"held\n"
        assert main(["status", "small", "--out", str(ran.parent)]) == 0
        assert capsys.readouterr().out.startswith("Study small: running\n")
        assert driver.stdin is not None
        driver.stdin.close()
    assert main(["status", "small", "--out", str(ran.parent)]) == 0
    assert capsys.readouterr().out.startswith("Study small: stopped\n")
    with DriverLock(ran):
        pass


def test_a_changed_file_is_said_to_be_changed_and_the_study_that_ran_is_shown(
    ran: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = tmp_path / "changed.yaml"
    changed.write_text(to_yaml(STUDY).replace("trials: 5", "trials: 6"))
    assert main(["status", str(changed), "--out", str(ran.parent)]) == 0
    output = capsys.readouterr()
    assert "has changed since it ran" in output.err
    assert "4 of at most 5" in output.out


def test_a_study_that_never_ran_is_refused_with_the_nearest_name_or_the_command(
    ran: Path, good: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["status", "smal", "--out", str(ran.parent)]) == 2
    assert "no study has run there. Did you mean 'small'?" in capsys.readouterr().err
    other = str(tmp_path / "other")
    assert main(["status", good, "--out", other]) == 2
    assert f"Run it with: orchestrate study {good} --out {other}" in capsys.readouterr().err
    assert not Path(other).exists()


def test_ui_serves_the_store_of_the_study_or_of_the_output_folder(
    ran: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[tuple[Any, ...]] = []

    def serve(*arguments: Any) -> int:
        served.append(arguments)
        return 3

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(store, "serve_ui", serve)
    assert main(["ui", "--out", str(ran.parent), "--port", "0"]) == 3
    assert main(["ui", str(ran), "--host", "0.0.0.0"]) == 3
    uri = f"sqlite:///{ran.parent}/mlflow.db"
    assert served == [(uri, 0, "127.0.0.1", {}), (uri, 5000, "0.0.0.0", {})]


def test_a_damaged_ledger_is_read_from_its_copy_with_a_warning(
    ran: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = ran / "ledger.jsonl"
    assert main(["status", "small", "--out", str(ran.parent)]) == 0
    expected = capsys.readouterr().out
    lines = ledger.read_bytes().splitlines(keepends=True)
    damaged = b"".join([lines[0], b"x" * (len(lines[1]) - 1) + b"\n", *lines[2:]])
    ledger.write_bytes(damaged)
    assert main(["status", "small", "--out", str(ran.parent)]) == 0
    found = capsys.readouterr()
    assert f"warning: {ledger}: line 2 was damaged" in found.err
    # From the table on: above it stands when the ledger was written.
    assert found.out[found.out.index("\n  arm") :] == expected[expected.index("\n  arm") :]
    assert ledger.read_bytes() == damaged
    ledger.unlink()
    assert main(["status", "small", "--out", str(ran.parent)]) == 0
    assert "were missing and read from ledger.copy.jsonl" in capsys.readouterr().err


def test_output_that_cannot_show_every_letter_does_not_end_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    monkeypatch.setattr(sys, "stdout", narrow)
    assert main(["list"]) == 0
