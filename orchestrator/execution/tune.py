"""One Ray Tune run for what is left of a study."""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune

from orchestrator.campaign.campaign import Campaign, TrialRequest
from orchestrator.execution.adapter import Bridge, CampaignScheduler, CampaignSearcher, InterruptStopper
from orchestrator.execution.trial import request_of, train


def fit(
    campaign: Campaign, study_dir: Path, data_root: Path, slots: int, interrupted: Callable[[], bool]
) -> None:
    """Train until the campaign is done or the user interrupts.

    Args:
        slots: trials side by side.
    """
    wanted = campaign.spec.resources

    def payload(request: TrialRequest) -> dict[str, Any]:
        return request_of(
            request.config,
            request.key,
            trials=(study_dir / "trials").resolve(),
            data_root=data_root,
            threads=max(1, math.floor(wanted.cpu)),
            gpus=wanted.most_gpu,
        )

    bridge = Bridge(campaign, payload, interrupted, time.monotonic)
    storage = (study_dir / "ray").resolve()
    # Tune's own files are never read back: a resume builds a fresh Tuner from the ledger.
    shutil.rmtree(storage, ignore_errors=True)
    storage.mkdir(parents=True)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    resources = {"cpu": wanted.cpu, "gpu": wanted.most_gpu}
    tuner = tune.Tuner(
        tune.with_resources(train, resources),
        tune_config=tune.TuneConfig(
            search_alg=CampaignSearcher(bridge),
            scheduler=CampaignScheduler(bridge, slots),
            num_samples=-1,
            max_concurrent_trials=slots,
            reuse_actors=True,
            trial_name_creator=lambda trial: trial.trial_id,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(storage),
            stop=InterruptStopper(bridge),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=0),
            log_to_file=False,
        ),
    )
    tuner.fit()
    shutil.rmtree(storage, ignore_errors=True)
