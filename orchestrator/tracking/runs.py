"""The runs of one study in MLflow: each is found by the role that it plays, and made once.

MLflow names a run itself. A server that dies between making a run and saying so leaves one whose name nobody
learnt; so whatever was asked for in vain is looked for by its tags before it is asked for again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from mlflow import MlflowClient

from orchestrator.campaign.record import TrialRecord

PREFIX = "orchestrate."
"""Of every tag of ours."""
STATUS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
"""A run's status by the state of its trial."""
GONE = "RESOURCE_DOES_NOT_EXIST"
"""What MLflow calls the error that something is not there."""
_PARENT = "mlflow.parentRunId"
_PAGE = 1000


class Runs:
    """Which run plays which role: ``study``, ``arm:<name>``, ``trial:<key>``.

    Args:
        instance: identity of the study folder; runs of an earlier study with the same name are left alone.
    """

    def __init__(self, client: MlflowClient, experiment_id: str, instance: str) -> None:
        self._client = client
        self._experiment_id = experiment_id
        self._instance = instance
        self.ids: dict[str, str] = {}
        """Run id by role."""
        self.ended: dict[str, tuple[str, int]] = {}
        """How and when trials ended, as MLflow shows it, by role: see :func:`end_of`."""
        self.made: set[str] = set()
        """Roles whose runs were made here, in this session: nothing can be in them but what was sent."""
        self._asked: set[str] = set()
        """Roles for which a run was asked and no answer came."""
        self.common: Mapping[str, str] = {}
        """MLflow's own tags of every run that is made."""
        self.doubtful = False
        """Whether a run was asked for in vain: it may still come into being, even after it was looked for."""

    def look_up(self) -> None:
        """Find the runs that there are; where a role is played twice, only one of the two is kept."""
        found: dict[str, list[Any]] = {}
        children = Counter[str]()
        for run in self._search(f"tags.`{PREFIX}instance` = '{self._instance}'"):
            found.setdefault(run.data.tags[PREFIX + "role"], []).append(run)
            children[run.data.tags.get(_PARENT, "")] += 1
        for role, runs in found.items():
            self._adopt(role, runs, children)

    def get(
        self,
        role: str,
        name: str,
        started: float,
        tags: Mapping[str, str],
        parent: str | None = None,
        own: Mapping[str, str] | None = None,
    ) -> str:
        """The id of the run that plays a role, made where it is missing.

        Args:
            started: seconds since the epoch.
            tags: without the prefix.
            parent: run id.
            own: MLflow's own tags, in place of the common ones.
        """
        if role not in self.ids and role in self._asked:
            mine = f"tags.`{PREFIX}instance` = '{self._instance}' AND tags.`{PREFIX}role` = '{role}'"
            if runs := self._search(mine):
                self._adopt(role, runs, {})
        if role not in self.ids:
            ours = {**tags, "role": role, "instance": self._instance}
            mlflows = self.common if own is None else own
            all_tags = {**mlflows, **{PREFIX + n: value for n, value in ours.items()}}
            if parent:
                all_tags[_PARENT] = parent
            self._asked.add(role)
            try:
                run = self._client.create_run(
                    self._experiment_id, start_time=int(started * 1000), tags=all_tags, run_name=name
                )
            except Exception:
                self.doubtful = True
                raise
            self.ids[role] = str(run.info.run_id)
            self.made.add(role)
        return self.ids[role]

    def settle(self) -> None:
        """Take back runs that came into being twice after all; costs nothing where there was no doubt."""
        if self.doubtful:
            self.look_up()
            self.doubtful = False

    def _search(self, filter_string: str) -> list[Any]:
        found: list[Any] = []
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment_id], filter_string=filter_string, max_results=_PAGE, page_token=token
            )
            found += page
            token = page.token
            if not token:
                return found

    def _adopt(self, role: str, runs: list[Any], children: Mapping[str, int]) -> None:
        """Keep the run that is in use already, else the one that holds most; the others go.

        Args:
            children: how many runs name a run as their parent, by run id.
        """
        best = max(
            runs,
            key=lambda run: (
                run.info.run_id == self.ids.get(role),
                _has_ended(run),
                children.get(run.info.run_id, 0),
                len(run.data.metrics) + len(run.data.params) + len(run.data.tags),
                run.info.run_id,
            ),
        )
        self.ids[role] = best.info.run_id
        if _has_ended(best):
            self.ended[role] = (best.data.tags[PREFIX + "state"], int(best.info.end_time))
        for run in runs:
            if run is not best:
                self._client.delete_run(run.info.run_id)


def end_of(trial: TrialRecord) -> tuple[str, int] | None:
    """How a trial ended (complete, pruned or failed), and when, in milliseconds since the epoch."""
    return None if trial.ended is None else (trial.state, int(trial.ended * 1000))


def _has_ended(run: Any) -> bool:
    """Whether the run shows a real end.

    An interrupted trial's run is KILLED too, but goes on. The state is written with the last metrics, and
    the status after it: only both together are the end.
    """
    state = run.data.tags.get(PREFIX + "state")
    return state is not None and run.info.status == STATUS.get(state)
