"""The MLflow writer: what one trial, arm or study looks like in MLflow.

Everything is an upsert, keyed by tags: writing the same thing again changes nothing. So records can be sent
again after a crash, and MLflow never holds a run twice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric, Param, RunTag

from orchestrator.campaign.record import ArmRecord, StudyRecord, TrialRecord
from orchestrator.errors import Unavailable
from orchestrator.study.regimes import regimes
from orchestrator.study.spec import StudySpec

_PREFIX = "orchestrate."
_BATCH = 900
"""Metrics in one call; MLflow takes at most 1,000."""
_STATUS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}


class MlflowWriter:
    """Writes one study into one experiment.

    Args:
        artifact_root: where a local store keeps artifacts, as a URI; None: the server decides.
    """

    def __init__(self, spec: StudySpec, study_dir: Path, uri: str, artifact_root: str | None) -> None:
        self._spec = spec
        self._dir = study_dir
        self._instance = ""
        """Identity of the study folder; runs of an earlier study with the same name are left alone."""
        self._client = MlflowClient(tracking_uri=uri)
        self.uri = uri
        self.experiment_id = self._experiment(spec.tracking.experiment or spec.name, artifact_root)
        self._runs: dict[str, str] = {}
        """Run id by role: ``study``, ``arm:<name>``, ``trial:<key>``."""
        self._ended: set[str] = set()
        self._sent: dict[str, set[int]] = {}
        """Epochs sent in this session, by trial key."""

    def _experiment(self, name: str, artifact_root: str | None) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            if found.lifecycle_stage != "active":
                raise Unavailable(
                    f"the MLflow experiment {name!r} has been deleted; restore it "
                    f"(mlflow experiments restore --experiment-id {found.experiment_id}) or name another "
                    f"with tracking.experiment."
                )
            return str(found.experiment_id)
        location = f"{artifact_root}/{name}" if artifact_root else None
        # The kind decides which pages the UI opens with: those for training, not for language models.
        tags = {"mlflow.experimentKind": "custom_model_development"}
        return str(self._client.create_experiment(name, artifact_location=location, tags=tags))

    def _find_runs(self) -> None:
        token = None
        while True:
            page = self._client.search_runs(
                [self.experiment_id],
                filter_string=f"tags.`{_PREFIX}instance` = '{self._instance}'",
                max_results=1000,
                page_token=token,
            )
            for run in page:
                role = run.data.tags[_PREFIX + "role"]
                self._runs[role] = run.info.run_id
                # An interrupted trial's run is KILLED too, but goes on; the state is written at a real end.
                if run.info.status != "RUNNING" and _PREFIX + "state" in run.data.tags:
                    self._ended.add(role)
            token = page.token
            if not token:
                return

    # -- runs -----------------------------------------------------------------------------------------

    def _run(self, role: str, name: str, started: float, tags: Mapping[str, str], parent: str = "") -> str:
        """The id of the run that plays a role, made where it is missing."""
        run_id = self._runs.get(role)
        if run_id is None:
            all_tags = {_PREFIX + k: v for k, v in {**tags, "role": role, "instance": self._instance}.items()}
            if parent:
                all_tags["mlflow.parentRunId"] = parent
            run = self._client.create_run(
                self.experiment_id, start_time=int(started * 1000), tags=all_tags, run_name=name
            )
            run_id = str(run.info.run_id)
            self._runs[role] = run_id
        return run_id

    def open_study(self, record: StudyRecord) -> str:
        """Begin a session: the runs of the study and its arms are running. Returns the study's run id."""
        self._instance = record.sessions[0]["instance"]
        self._find_runs()
        session = record.sessions[-1]
        tags = {"study": self._spec.name, "commit": session["commit"], "data_hash": session["data"]["hash"]}
        started = record.sessions[0]["t"]
        run_id = self._run("study", f"study {self._spec.name}", started, tags)
        self._client.set_tag(run_id, "mlflow.note.content", self._spec.question or self._spec.name)
        self._client.update_run(run_id, status="RUNNING")
        for name in record.arms:
            self._client.update_run(self.arm_run(record, name), status="RUNNING")
        return run_id

    def arm_run(self, record: StudyRecord, name: str) -> str:
        tags = {"study": self._spec.name, "arm": name, "loss": self._spec.arms[name].loss}
        return self._run(f"arm:{name}", f"arm {name}", record.sessions[0]["t"], tags, self._runs["study"])

    def write_trial(self, record: StudyRecord, trial: TrialRecord) -> None:
        """Bring a trial's run to where the record is."""
        role = f"trial:{trial.key}"
        if role in self._ended:
            if trial.rescored is not None:
                self._add_metrics(trial, self._runs[role])
            return
        session = record.sessions[-1]
        new = role not in self._runs
        tags = {
            "study": self._spec.name,
            "arm": trial.arm,
            "stage": trial.stage,
            "protocol": trial.protocol,
            "regime": trial.regime,
            "seed": str(trial.seed),
            "configuration": str(trial.number),
            "key": trial.key,
            "commit": session["commit"],
            "data_hash": session["data"]["hash"],
        }
        name = f"{trial.arm} {trial.place} #{trial.number} seed {trial.seed}"
        run_id = self._run(role, name, trial.started, tags, self.arm_run(record, trial.arm))
        if not new and trial.key not in self._sent and trial.ended is None:
            self._client.update_run(run_id, status="RUNNING")
        sent = self._sent.setdefault(trial.key, set())
        metrics = [
            Metric(key, value, int(trial.report_times[epoch] * 1000), epoch)
            for epoch, report in list(trial.reports.items())
            if epoch not in sent
            for key, value in report.items()
            if math.isfinite(value)
        ]
        params = [Param(k, str(v)) for k, v in trial.params.items()] if new else []
        if new:
            params += [Param("loss", self._spec.arms[trial.arm].loss), Param("seed", str(trial.seed))]
        last = []
        if trial.ended is not None:
            last = [
                RunTag(_PREFIX + "state", trial.state),
                RunTag(_PREFIX + "seconds", f"{trial.seconds:.3f}"),
            ]
            if trial.reason:
                last.append(RunTag(_PREFIX + "reason", trial.reason[:5000]))
            if trial.stage == "confirm" and trial.state == "complete":
                metrics += self._model_metrics(trial, run_id)
        self._log(run_id, metrics, params, last)
        sent.update(trial.reports)
        if trial.ended is not None:
            self._client.set_terminated(run_id, _STATUS[trial.state], end_time=int(trial.ended * 1000))
            self._ended.add(role)

    def _log(
        self,
        run_id: str,
        metrics: Sequence[Metric],
        params: Sequence[Param] = (),
        tags: Sequence[RunTag] = (),
    ) -> None:
        if not (metrics or params or tags):
            return
        self._client.log_batch(run_id, metrics=metrics[:_BATCH], params=params, tags=tags)
        for start in range(_BATCH, len(metrics), _BATCH):
            self._client.log_batch(run_id, metrics=metrics[start : start + _BATCH])

    # -- confirmed models -----------------------------------------------------------------------------

    def _model_metrics(self, trial: TrialRecord, run_id: str) -> list[Metric]:
        """Log the confirmed model; returns its final metrics, tied to it."""
        model_id = self._model(trial, run_id)
        return self._final(trial, run_id, model_id, trial.ended or 0.0)

    def _add_metrics(self, trial: TrialRecord, run_id: str) -> None:
        """Metrics that came after the trial's end; a store that has them already changes nothing."""
        known = self._client.get_run(run_id).data.metrics
        model_id = self._model(trial, run_id)
        fresh = self._final(trial, run_id, model_id, trial.rescored or 0.0)
        self._log(run_id, [metric for metric in fresh if metric.key not in known])

    def _final(self, trial: TrialRecord, run_id: str, model_id: str, when: float) -> list[Metric]:
        step, stamp = _last_epoch(trial), int(when * 1000)
        return [
            Metric(key, value, stamp, step, model_id=model_id, run_id=run_id)
            for key, value in trial.metrics.items()
            if math.isfinite(value)
        ]

    def _model(self, trial: TrialRecord, run_id: str) -> str:
        found = self._client.search_logged_models(
            [self.experiment_id],
            filter_string=f"tags.`{_PREFIX}key` = '{trial.key}' AND source_run_id = '{run_id}'",
        )
        for model in found:
            if model.status == LoggedModelStatus.READY:
                return str(model.model_id)
            self._client.delete_logged_model(model.model_id)
        model = self._client.create_logged_model(
            self.experiment_id,
            name=f"{self._spec.name}-{trial.arm}-{_file_name(trial.regime)}seed{trial.seed}",
            source_run_id=run_id,
            model_type="classifier",
            params={k: str(v) for k, v in trial.params.items()},
            tags={
                _PREFIX + "key": trial.key,
                _PREFIX + "arm": trial.arm,
                _PREFIX + "regime": trial.regime,
                _PREFIX + "study": self._spec.name,
            },
        )
        model_id = str(model.model_id)
        checkpoint = self._dir / "trials" / trial.key
        if checkpoint.is_dir():
            self._client.log_model_artifacts(model_id, str(checkpoint))
        self._client.log_outputs(run_id, [LoggedModelOutput(model_id, _last_epoch(trial))])
        self._client.finalize_logged_model(model_id, LoggedModelStatus.READY)
        return model_id

    # -- the end --------------------------------------------------------------------------------------

    def close(self, record: StudyRecord, status: str, summaries: Mapping[str, Mapping[str, float]]) -> None:
        """End the study's and the arms' runs; trials that did not end are KILLED until they go on.

        Args:
            status: ``FINISHED``, ``FAILED`` or ``KILLED``.
            summaries: by arm, what its run shows (means and standard deviations over the confirm seeds).
        """
        stamp = int(record.closed[-1]["t"] * 1000) if record.closed else None
        for trial in record.trials.values():
            role = f"trial:{trial.key}"
            if trial.ended is None and role in self._runs:
                self._client.set_terminated(self._runs[role], "KILLED")
        for name, arm in record.arms.items():
            run_id = self.arm_run(record, name)
            metrics = [Metric(k, v, stamp or 0, 0) for k, v in summaries.get(name, {}).items()]
            params = [Param(k, str(v)) for k, v in arm.selection.get("params", {}).items()]
            self._log(run_id, metrics, params, self._arm_tags(arm))
            self._client.set_terminated(run_id, "FAILED" if arm.failure else status, end_time=stamp)
        self._client.set_terminated(self._runs["study"], status, end_time=stamp)

    def _arm_tags(self, arm: ArmRecord) -> list[RunTag]:
        complete = sum(t.state == "complete" for t in arm.confirm_trials)
        planned = arm.confirm_planned(regimes(self._spec), len(self._spec.confirm.seeds))
        said = (
            f"Loss `{self._spec.arms[arm.name].loss}` of study {self._spec.name}. Parameters: the winner of "
            f"its search. Metrics: means over the confirm seeds, and their standard deviations (`..._std`, "
            f"ddof 1); {complete} of {planned} confirm trials are complete."
        )
        said += "".join(f"\n\nNot trained in {name}: {reason}." for name, reason in arm.skipped.items())
        tags = [RunTag("mlflow.note.content", said)]
        if arm.failure:
            tags.append(RunTag(_PREFIX + "failure", arm.failure[:5000]))
        return tags

    def log_report(self, folder: Path) -> None:
        """The report's files as artifacts of the study's run."""
        self._client.log_artifacts(self._runs["study"], str(folder), "report")

    def run_ids(self) -> dict[str, str]:
        return dict(self._runs)

    def run_url(self) -> str:
        """Where the study's run is, for people: a page of a server, or the command that opens the UI."""
        run_id = self._runs["study"]
        if self.uri.startswith("http"):
            return f"{self.uri.rstrip('/')}/#/experiments/{self.experiment_id}/runs/{run_id}"
        return f"run {run_id} in {self.uri}"


def _last_epoch(trial: TrialRecord) -> int:
    """The step of what was measured at a trial's end."""
    return max(trial.reports, default=0)


def _file_name(regime: str) -> str:
    """Of a regime in the name of a model, which holds no slash; nothing for the standard one."""
    return "" if regime == "standard" else f"{regime.replace('/', '-')}-"
