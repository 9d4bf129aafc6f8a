"""The MLflow writer: what one trial, arm or study looks like in MLflow.

Everything is an upsert, keyed by tags: writing the same thing again changes nothing. So records can be sent
again after a crash, and MLflow never holds a run twice. A metric point that MLflow holds already (same name,
value, step and time) is not added again: MLflow itself sees to that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from orchestrator.campaign.audit import draw
from orchestrator.campaign.record import ArmRecord, StudyRecord, TrialRecord
from orchestrator.errors import Unavailable
from orchestrator.study.spec import StudySpec
from orchestrator.tracking.datasets import datasets_of
from orchestrator.tracking.descriptions import arm_text, clipped, experiment_text, sources, study_text
from orchestrator.tracking.models import Models, last_epoch
from orchestrator.tracking.runs import PREFIX, STATUS, Runs, end_of

_BATCH = 900
"""Metrics in one call; MLflow takes at most 1,000."""


class MlflowWriter:
    """Writes one study into one experiment.

    Args:
        uri: without user and password (see ``store.hand_over_credentials``).
        artifact_root: where a local store keeps artifacts, as a URI; None: the server decides.
        fetch_trial: has the folder of a trial in ``study_dir``, where it is elsewhere.
    """

    def __init__(
        self,
        spec: StudySpec,
        study_dir: Path,
        uri: str,
        artifact_root: str | None,
        fetch_trial: Callable[[str], None] = lambda key: None,
    ) -> None:
        self._spec = spec
        self._client = MlflowClient(tracking_uri=uri)
        self.uri = uri
        self.experiment_id = self._experiment(spec.tracking.experiment or spec.name, artifact_root)
        self._runs = Runs(self._client, self.experiment_id, "")
        self._models = Models(self._client, self.experiment_id, spec.name, study_dir, fetch_trial)
        self._sent: dict[str, set[int]] = {}
        """Epochs sent in this session, by trial key."""
        self._running: set[str] = set()
        """Trials whose runs were said to run, in this session."""
        self._given: set[str] = set()
        """Trials whose runs were told their data sets, in this session."""
        self._held: dict[str, dict[str, dict[int, int]]] = {}
        """By trial whose run is of an earlier session: metric name, step and time, as far as asked for."""

    def _experiment(self, name: str, artifact_root: str | None) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            location = f"{artifact_root}/{name}" if artifact_root else None
            # The kind decides which pages the UI opens with: those for training, not for language models.
            tags = {
                "mlflow.experimentKind": "custom_model_development",
                "mlflow.note.content": experiment_text(self._spec),
            }
            try:
                return str(self._client.create_experiment(name, artifact_location=location, tags=tags))
            except MlflowException:
                # Another study may have made it meanwhile, or this one, without learning of it.
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            raise Unavailable(
                f"the MLflow experiment {name!r} has been deleted; nothing was run. Restore it "
                f"(mlflow experiments restore --experiment-id {found.experiment_id}) or name another "
                f"with tracking.experiment."
            )
        return str(found.experiment_id)

    # -- runs -----------------------------------------------------------------------------------------

    def open_study(self, record: StudyRecord) -> str:
        """Begin a session: the runs of the study and its arms are running. Returns the study's run id."""
        self._runs = Runs(self._client, self.experiment_id, record.sessions[0]["instance"])
        self._runs.common = sources(record.sessions[-1])
        self._runs.look_up()
        session = record.sessions[-1]
        tags = {"study": self._spec.name, "commit": session["commit"], "data_hash": session["data"]["hash"]}
        started = record.sessions[0]["t"]
        run_id = self._runs.get("study", f"study {self._spec.name}", started, tags)
        self._client.set_tag(run_id, "mlflow.note.content", study_text(self._spec, record))
        self._client.update_run(run_id, status="RUNNING")
        for name in record.arms:
            role = f"arm:{name}"
            arm_run = self.arm_run(record, name)
            if role not in self._runs.made:
                self._client.update_run(arm_run, status="RUNNING")
            if f"audit:{name}" in self._runs.ids:
                self._client.update_run(self._runs.ids[f"audit:{name}"], status="RUNNING")
        return run_id

    def arm_run(self, record: StudyRecord, name: str) -> str:
        tags = {"study": self._spec.name, "arm": name, "loss": self._spec.arms[name].loss}
        parent = self._runs.ids["study"]
        return self._runs.get(f"arm:{name}", f"arm {name}", record.sessions[0]["t"], tags, parent)

    def audit_run(self, record: StudyRecord, name: str, started: float) -> str:
        """An arm's audits: they are no results of the arm, and stand below a run of their own."""
        tags = {"study": self._spec.name, "arm": name, "loss": self._spec.arms[name].loss}
        parent = self.arm_run(record, name)
        return self._runs.get(f"audit:{name}", f"audit of {name}", started, tags, parent)

    def write_trial(self, record: StudyRecord, trial: TrialRecord) -> None:
        """Bring a trial's run to where the record is."""
        role = f"trial:{trial.key}"
        # One whose files were damaged goes on after its end, and ends once more.
        end = end_of(trial)
        if end is not None and self._runs.ended.get(role) == end:
            if trial.rescored is not None:
                self._add_metrics(trial, self._runs.ids[role], trial.rescored)
            return
        run_id = self._trial_run(record, trial, role)
        self._give_datasets(record, trial, run_id)
        metrics, params, tags = self._news(trial), self._params(trial), self._end_tags(trial)
        if role not in self._runs.made:
            metrics = self._unheld(run_id, trial.key, metrics)
        if trial.ended is not None and trial.stage == "audit" and trial.state == "complete":
            final = self._points(trial, trial.ended, None, run_id)
            held = {} if role in self._runs.made else self._client.get_run(run_id).data.metrics
            metrics += _unlike(held, final)
        if trial.ended is not None and trial.stage == "confirm" and trial.state == "complete":
            final = self._final(trial, run_id, trial.ended)
            # An earlier session may have written them already, with another time.
            metrics += final if role in self._runs.made else self._fresh(final)
        self._log(run_id, metrics, params, tags)
        self._sent.setdefault(trial.key, set()).update(metric.step for metric in metrics)
        if end is not None:
            self._client.set_terminated(run_id, STATUS[trial.state], end_time=end[1])
            self._runs.ended[role] = end

    def _trial_run(self, record: StudyRecord, trial: TrialRecord, role: str) -> str:
        # Its run may be made sessions later, where the server was away.
        session = record.sessions[trial.sessions[-1]] if trial.sessions else record.sessions[-1]
        tags = {
            "study": self._spec.name,
            "arm": trial.arm,
            "stage": trial.stage,
            "protocol": trial.protocol,
            "regime": trial.regime,
            "repeat": str(trial.repeat),
            "seed": str(trial.seed),
            "configuration": str(trial.number),
            "key": trial.key,
            "commit": session["commit"],
            "data_hash": session["data"]["hash"],
        }
        name = f"{trial.arm} {trial.place} #{trial.number} seed {trial.seed}"
        if trial.stage == "audit":
            drawn = draw(self._spec, record.arms[trial.arm]).of(trial.number)
            tags["audit"] = " ".join(drawn)
            parent = self.audit_run(record, trial.arm, trial.started)
        else:
            parent = self.arm_run(record, trial.arm)
        run_id = self._runs.get(role, name, trial.started, tags, parent, sources(session))
        if role not in self._runs.made and trial.key not in self._running and trial.ended is None:
            self._client.update_run(run_id, status="RUNNING")
        self._running.add(trial.key)
        return run_id

    def _give_datasets(self, record: StudyRecord, trial: TrialRecord, run_id: str) -> None:
        """Say once which images the run sees; a run of an earlier session knows."""
        if f"trial:{trial.key}" in self._runs.made and trial.key not in self._given:
            data = record.sessions[-1]["data"]
            self._client.log_inputs(run_id, datasets_of(self._spec, data, trial.stage))
            self._given.add(trial.key)

    def _news(self, trial: TrialRecord) -> list[Metric]:
        """Of the epochs that were not sent in this session; MLflow leaves out what it holds already."""
        sent = self._sent.get(trial.key, set())
        return [
            Metric(key, value, int(trial.report_times[epoch] * 1000), epoch)
            for epoch, report in list(trial.reports.items())
            if epoch not in sent
            for key, value in report.items()
            if math.isfinite(value)
        ]

    def _unheld(self, run_id: str, key: str, news: list[Metric]) -> list[Metric]:
        """Without the points that MLflow holds with another time.

        A ledger that was lost is worked out again, and then every report has a new time.
        """
        if not news:
            return []
        held, first = self._held.setdefault(key, {}), news[0].key
        if first not in held:
            held[first] = self._times(run_id, first)
        if all(held[first].get(m.step, m.timestamp) == m.timestamp for m in news if m.key == first):
            return news
        for name in {m.key for m in news} - set(held):
            held[name] = self._times(run_id, name)
        return [m for m in news if m.step not in held[m.key]]

    def _times(self, run_id: str, name: str) -> dict[int, int]:
        """By step, the time of each point of a metric that MLflow holds."""
        return {m.step: m.timestamp for m in self._client.get_metric_history(run_id, name)}

    def _params(self, trial: TrialRecord) -> list[Param]:
        """Sent with the first batch of a session: an earlier one may not have arrived."""
        if trial.key in self._sent:
            return []
        named = {**trial.params, "loss": self._spec.arms[trial.arm].loss, "seed": trial.seed}
        return [Param(name, str(value)) for name, value in named.items()]

    def _end_tags(self, trial: TrialRecord) -> list[RunTag]:
        if trial.ended is None:
            return []
        tags = {"state": trial.state, "seconds": f"{trial.seconds:.3f}"}
        if trial.reason:
            tags["reason"] = clipped(trial.reason)
        tags |= trial.environment
        return [RunTag(PREFIX + name, value) for name, value in tags.items()]

    def _log(
        self,
        run_id: str,
        metrics: Sequence[Metric],
        params: Sequence[Param] = (),
        tags: Sequence[RunTag] = (),
    ) -> None:
        if not (metrics or params or tags):
            return
        # The tags say that a trial has ended: they go with the last batch.
        starts = range(0, max(len(metrics), 1), _BATCH)
        for start in starts:
            self._client.log_batch(
                run_id,
                metrics=metrics[start : start + _BATCH],
                params=params if start == 0 else (),
                tags=tags if start == starts[-1] else (),
            )

    # -- confirmed models -----------------------------------------------------------------------------

    def _final(self, trial: TrialRecord, run_id: str, when: float) -> list[Metric]:
        """The final metrics, tied to the confirmed model, which is logged where it is missing."""
        model_id = self._models.get(trial, run_id, new_run=f"trial:{trial.key}" in self._runs.made)
        return self._points(trial, when, model_id, run_id)

    def _points(self, trial: TrialRecord, when: float, model_id: str | None, run_id: str) -> list[Metric]:
        """The final metrics, of a run and its model (None: it has none)."""
        step = last_epoch(trial)
        report, reported = trial.reports.get(step, {}), trial.report_times.get(step, when)
        return [
            # What the last epoch reported as well is the same point, at the same time.
            Metric(
                key,
                value,
                int((reported if report.get(key) == value else when) * 1000),
                step,
                model_id=model_id,
                run_id=run_id,
            )
            for key, value in trial.metrics.items()
            if math.isfinite(value)
        ]

    def _add_metrics(self, trial: TrialRecord, run_id: str, when: float) -> None:
        """Metrics that came after the trial's end; a store that has them already changes nothing."""
        self._log(run_id, self._fresh(self._final(trial, run_id, when)))

    def _fresh(self, final: Sequence[Metric]) -> list[Metric]:
        """Those of a model's metrics that it does not hold, or holds with another value.

        MLflow writes a metric into the run first and into the model after it: the model tells what arrived.
        """
        if not final:
            return []
        held = self._client.get_logged_model(final[0].model_id).metrics or []
        return _unlike({metric.key: metric.value for metric in held}, final)

    # -- the end --------------------------------------------------------------------------------------

    def close(
        self,
        record: StudyRecord,
        status: str,
        summaries: Mapping[str, Mapping[str, float]],
        audits: Mapping[str, Mapping[str, float]] | None = None,
        answer: str = "",
    ) -> None:
        """End the study's and the arms' runs; trials that did not end are KILLED until they go on.

        Args:
            status: ``FINISHED``, ``FAILED`` or ``KILLED``.
            summaries: by arm, what its run shows (means and standard deviations over the confirm seeds).
            audits: by arm, what the run of its audits shows.
            answer: the report's, in Markdown.
        """
        self._runs.settle()
        self._models.settle()
        stamp = int(record.closed[-1]["t"] * 1000) if record.closed else None
        for trial in record.trials.values():
            role = f"trial:{trial.key}"
            if trial.ended is None and role in self._runs.ids:
                self._client.set_terminated(self._runs.ids[role], "KILLED", end_time=stamp)
        for name, arm in record.arms.items():
            run_id = self.arm_run(record, name)
            metrics = [Metric(k, v, stamp or 0, 0) for k, v in summaries.get(name, {}).items()]
            params = [Param(k, str(v)) for k, v in arm.selection.get("params", {}).items()]
            # A study that is run again when it is done says the same at another time.
            held = self._client.get_run(run_id).data.metrics if metrics else {}
            self._log(run_id, _unlike(held, metrics), params, self._arm_tags(arm))
            self._client.set_terminated(run_id, "FAILED" if arm.failure else status, end_time=stamp)
            if arm.audits:
                self._close_audit(record, arm, status, stamp, (audits or {}).get(name, {}))
        self._client.set_tag(
            self._runs.ids["study"], "mlflow.note.content", study_text(self._spec, record, answer)
        )
        self._client.set_terminated(self._runs.ids["study"], status, end_time=stamp)

    def _close_audit(
        self, record: StudyRecord, arm: ArmRecord, status: str, stamp: int | None, found: Mapping[str, float]
    ) -> None:
        run_id = self.audit_run(record, arm.name, min(trial.started for trial in arm.audit_trials))
        metrics = [Metric(name, value, stamp or 0, 0) for name, value in found.items()]
        held = self._client.get_run(run_id).data.metrics if metrics else {}
        said = (
            f"Audits of arm {arm.name}: configurations drawn at random when every winner was frozen, trained "
            "to the end and measured on real OOD. Nothing that was chosen rests on them; the report says "
            "what they show."
        )
        self._log(run_id, _unlike(held, metrics), (), [RunTag("mlflow.note.content", said)])
        self._client.set_terminated(run_id, status, end_time=stamp)

    def _arm_tags(self, arm: ArmRecord) -> list[RunTag]:
        tags = [RunTag("mlflow.note.content", arm_text(self._spec, arm))]
        if arm.failure:
            tags.append(RunTag(PREFIX + "failure", clipped(arm.failure)))
        return tags

    def log_report(self, folder: Path) -> None:
        """The report's files as artifacts of the study's run."""
        self._client.log_artifacts(self._runs.ids["study"], str(folder), "report")

    def run_ids(self) -> dict[str, str]:
        return dict(self._runs.ids)

    def run_url(self) -> str:
        """Where the study's run is, for people: a page of a server, or the command that opens the UI."""
        run_id = self._runs.ids["study"]
        if self.uri.startswith("http"):
            page = f"{self.uri.rstrip('/')}/#/experiments/{self.experiment_id}/runs/{run_id}"
            return f"{page}?workflowType=machine_learning"
        return f"run {run_id} in {self.uri}"


def _unlike(held: Mapping[str, float], metrics: Sequence[Metric]) -> list[Metric]:
    return [metric for metric in metrics if held.get(metric.key) != metric.value]
