"""What an MLflow store holds of a study, but for names and times, so that two stores can be compared."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from mlflow import MlflowClient


@dataclass(frozen=True)
class Run:
    """One run."""

    status: str
    params: dict[str, str]
    tags: dict[str, str]
    points: list[tuple[str, int, float]]
    """Every metric point: name, step, value; twice where it is there twice."""
    models: int
    """Ties to models."""
    parent: str
    """Its role."""
    datasets: list[tuple[str, str, str]]
    """Name, digest and context; twice where it is there twice."""


@dataclass(frozen=True)
class Model:
    """One logged model."""

    name: str
    status: str
    params: dict[str, str]
    points: list[tuple[str, int, float]]
    files: list[str]


_OWN = (
    *("orchestrate.seconds", "orchestrate.instance"),
    *("mlflow.parentRunId", "mlflow.user", "mlflow.source.name"),
)
"""Tags that differ between two runs of the same study."""


def holdings(uri: str, study: str) -> tuple[dict[str, Run], dict[str, Model]]:
    """Runs by role and models by trial key; fails where one is there twice."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(study).experiment_id
    runs = list(client.search_runs([experiment], max_results=1000))
    roles = {run.info.run_id: run.data.tags["orchestrate.role"] for run in runs}
    twice = [role for role, count in Counter(roles.values()).items() if count > 1]
    assert not twice, f"MLflow holds these twice: {twice}"
    models = list(client.search_logged_models([experiment], max_results=200))
    keys = Counter(model.tags["orchestrate.key"] for model in models)
    assert not keys or max(keys.values()) == 1, f"MLflow holds models twice: {keys}"
    return (
        {roles[run.info.run_id]: _run(client, run, roles) for run in runs},
        {model.tags["orchestrate.key"]: _model(client, model) for model in models},
    )


def _run(client: MlflowClient, run: Any, roles: dict[str, str]) -> Run:
    points = [
        (point.key, point.step, point.value)
        for name in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, name)
    ]
    return Run(
        run.info.status,
        run.data.params,
        {name: _without_command(value) for name, value in run.data.tags.items() if name not in _OWN},
        sorted(points),
        len(run.outputs.model_outputs),
        roles.get(run.data.tags.get("mlflow.parentRunId", ""), ""),
        [
            (each.dataset.name, each.dataset.digest, ", ".join(tag.value for tag in each.tags))
            for each in run.inputs.dataset_inputs
        ],
    )


def _without_command(text: str) -> str:
    """A description without the line that names folders."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("| command"))


def _model(client: MlflowClient, model: Any) -> Model:
    return Model(
        model.name,
        str(model.status),
        model.params,
        sorted((metric.key, metric.step, metric.value) for metric in model.metrics or []),
        sorted(file.path for file in client.list_logged_model_artifacts(model.model_id)),
    )
