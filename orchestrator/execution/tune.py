"""One Ray Tune run for what is left of a study."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ray import tune

from orchestrator.campaign.campaign import Campaign, TrialRequest
from orchestrator.execution.adapter import Bridge, CampaignScheduler, CampaignSearcher, InterruptStopper
from orchestrator.execution.limit import Watch
from orchestrator.execution.packing import Machine, Packing, has_room, slots
from orchestrator.execution.trial import request_of, train


def fit(
    campaign: Campaign,
    study_dir: Path,
    data_root: Path,
    machines: Callable[[], Sequence[Machine]],
    interrupted: Callable[[], bool],
    halt: Callable[[str], None],
    store: Mapping[str, Any] | None = None,
) -> None:
    """Train until the campaign is done or the study has to stop.

    Args:
        machines: CPUs and GPUs of each node at the moment; nodes may leave and join.
        halt: stops the study, for a reason that is given in words.
        store: as for ``request_of``.
    """
    wanted, execution = campaign.spec.resources, campaign.spec.execution
    packing = Packing(wanted, campaign.record.trials.values())
    packed = wanted.gpu == "auto"

    trials = (study_dir / "trials").resolve()
    # A worker that does not find it runs on a node that does not share the folder.
    trials.mkdir(exist_ok=True)

    def room(shares: list[float]) -> bool:
        return has_room(shares, machines(), wanted, execution.max_concurrent)

    def most() -> int:
        return slots(machines(), wanted, execution.max_concurrent)

    def payload(request: TrialRequest) -> dict[str, Any]:
        return request_of(
            request.config,
            request.key,
            trials=trials,
            data_root=data_root,
            resources={"cpu": wanted.cpu, "gpu": packing.gpus(campaign.record.trials[request.key])},
            attempt=request.attempt,
            time_limit=execution.time_limit,
            confined=packed,
            store=store,
        )

    bridge = Bridge(campaign, payload, interrupted, time.monotonic, halt, packing, room, most)
    storage = (study_dir / "ray").resolve()
    # Tune's own files are never read back: a resume builds a fresh Tuner from the ledger.
    shutil.rmtree(storage, ignore_errors=True)
    storage.mkdir(parents=True)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    tuner = tune.Tuner(
        tune.with_resources(train, placement),
        tune_config=tune.TuneConfig(
            search_alg=CampaignSearcher(bridge),
            scheduler=CampaignScheduler(bridge, keep=not packed),
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=lambda trial: trial.trial_id,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(storage),
            stop=InterruptStopper(bridge),
            callbacks=[Watch(execution.time_limit, bridge.started)],
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=0),
            log_to_file=False,
        ),
    )
    tuner.fit()
    shutil.rmtree(storage, ignore_errors=True)


def placement(request: dict[str, Any]) -> tune.PlacementGroupFactory:
    """What Ray sets aside for a trial."""
    wanted = request["resources"]
    return tune.PlacementGroupFactory([{"CPU": wanted["cpu"], "GPU": wanted["gpu"]}])
