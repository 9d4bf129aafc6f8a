"""Confirmed models in MLflow: each logged once, with its files, whatever happens on the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus
from mlflow.exceptions import MlflowException

from orchestrator.campaign.record import TrialRecord
from orchestrator.tracking.runs import GONE, PREFIX


class Models:
    """The logged models of one study.

    Args:
        fetch_trial: has the folder of a trial in ``study_dir``, where it is elsewhere.
    """

    def __init__(
        self,
        client: MlflowClient,
        experiment_id: str,
        study: str,
        study_dir: Path,
        fetch_trial: Callable[[str], None] = lambda key: None,
    ) -> None:
        self._client = client
        self._experiment_id = experiment_id
        self._study = study
        self._dir = study_dir
        self._fetch_trial = fetch_trial
        self._ids: dict[str, str] = {}
        """Of the models that are complete, by trial key."""
        self._begun: set[str] = set()
        """Trial keys whose models were asked for in this session."""
        self._doubtful: list[tuple[TrialRecord, str]] = []
        """Trials, with their runs, whose models were asked for in vain; these may still come into being."""

    def get(self, trial: TrialRecord, run_id: str, *, new_run: bool) -> str:
        """The id of a trial's model, logged where it is missing.

        Args:
            new_run: whether the run was made in this session; then it has no model but what this session
                made, and need not be searched for one.
        """
        if trial.key in self._ids:
            return self._ids[trial.key]
        model_id, whole = None, False
        if not new_run or trial.key in self._begun:
            model_id, whole = self._found(trial, run_id)
        self._begun.add(trial.key)
        if model_id is None:
            model_id = self._create(trial, run_id)
            try:
                self._fill(trial, run_id, model_id, tied=False)
            except MlflowException as error:
                if error.error_code == GONE:
                    # Its run is not there (any more): nobody would find it again.
                    self._client.delete_logged_model(model_id)
                raise
        elif not whole:
            # MLflow would tie the same model to the run once more at every call.
            outputs = self._client.get_run(run_id).outputs.model_outputs
            self._fill(trial, run_id, model_id, tied=model_id in {each.model_id for each in outputs})
        self._ids[trial.key] = model_id
        return model_id

    def settle(self) -> None:
        """Take back models that came into being twice after all; costs nothing where there was no doubt."""
        while self._doubtful:
            self._found(*self._doubtful[-1])
            self._doubtful.pop()

    def _found(self, trial: TrialRecord, run_id: str) -> tuple[str | None, bool]:
        """A model that is there already, and whether it is complete; the better of two is kept."""
        found = self._client.search_logged_models(
            [self._experiment_id],
            filter_string=f"tags.`{PREFIX}key` = '{trial.key}' AND source_run_id = '{run_id}'",
        )
        ordered = sorted(found, key=lambda model: (model.status != LoggedModelStatus.READY, model.model_id))
        for model in ordered[1:]:
            self._client.delete_logged_model(model.model_id)
        if not ordered:
            return None, False
        return str(ordered[0].model_id), ordered[0].status == LoggedModelStatus.READY

    def _create(self, trial: TrialRecord, run_id: str) -> str:
        tags = {"key": trial.key, "arm": trial.arm, "regime": trial.regime, "study": self._study}
        try:
            model = self._client.create_logged_model(
                self._experiment_id,
                name=f"{self._study}-{trial.arm}-{_file_name(trial.regime)}seed{trial.seed}",
                source_run_id=run_id,
                model_type="classifier",
                params={k: str(v) for k, v in trial.params.items()},
                tags={PREFIX + name: value for name, value in tags.items()},
            )
        except Exception:
            self._doubtful.append((trial, run_id))
            raise
        return str(model.model_id)

    def _fill(self, trial: TrialRecord, run_id: str, model_id: str, *, tied: bool) -> None:
        """Files, the tie to the run where it is missing, and the word that all is there."""
        self._fetch_trial(trial.key)
        checkpoint = self._dir / "trials" / trial.key
        if checkpoint.is_dir():
            self._client.log_model_artifacts(model_id, str(checkpoint))
        if not tied:
            self._client.log_outputs(run_id, [LoggedModelOutput(model_id, last_epoch(trial))])
        self._client.finalize_logged_model(model_id, LoggedModelStatus.READY)


def last_epoch(trial: TrialRecord) -> int:
    """The step of what was measured at a trial's end."""
    return max(trial.reports, default=0)


def _file_name(regime: str) -> str:
    """Of a regime in the name of a model, which holds no slash; nothing for the standard one."""
    return "" if regime == "standard" else f"{regime.replace('/', '-')}-"
