"""Samplers and pruners, by their Optuna names; and what a study names but this version cannot run."""

from __future__ import annotations

from workloads.catalogue import Entry, Parameter

SAMPLERS: dict[str, Entry] = {
    "tpe": Entry(
        "tpe",
        "optuna.samplers:TPESampler",
        "Models where good configurations lie and tries there; the first 10 are random",
        "Bergstra et al. 2011, Algorithms for Hyper-Parameter Optimization",
    ),
    "random": Entry(
        "random",
        "optuna.samplers:RandomSampler",
        "Independent draws from the space; the fairest baseline of a search",
        "Bergstra and Bengio 2012, Random Search for Hyper-Parameter Optimization",
    ),
    "grid": Entry(
        "grid",
        "optuna.samplers:GridSampler",
        "Every combination of a finite space (fixed, grid, choice, int_uniform), up to search.trials",
        "Optuna",
    ),
}

PRUNERS: dict[str, Entry] = {
    "median": Entry(
        "median",
        "optuna.pruners:MedianPruner",
        "Stops a trial that is worse than the median of earlier ones at the same epoch",
        "Optuna; Golovin et al. 2017 (Vizier), median stopping rule",
        {
            "n_startup_trials": Parameter(
                "int", 5, "finished trials before any is stopped", low=0, unit="trials"
            ),
            "interval_steps": Parameter("int", 1, "reports between two decisions", low=1, unit="reports"),
            "n_min_trials": Parameter(
                "int", 1, "trials that must have reached an epoch before it is judged", low=1, unit="trials"
            ),
        },
    ),
    "successive_halving": Entry(
        "successive_halving",
        "optuna.pruners:SuccessiveHalvingPruner",
        "Asynchronous successive halving: at each rung only the best 1/reduction_factor go on",
        "Li et al. 2020, A System for Massively Parallel Hyperparameter Tuning (ASHA)",
        {
            "min_resource": Parameter("int", 1, "epochs of the first rung", low=1, unit="epochs"),
            "reduction_factor": Parameter("int", 4, "share kept at a rung is 1/this", low=2),
            "min_early_stopping_rate": Parameter("int", 0, "rungs skipped at the start", low=0),
        },
    ),
    "hyperband": Entry(
        "hyperband",
        "optuna.pruners:HyperbandPruner",
        "Several successive halvings side by side, from impatient to patient",
        "Li et al. 2018, Hyperband",
        {
            "min_resource": Parameter("int", 1, "epochs of the first rung", low=1, unit="epochs"),
            "reduction_factor": Parameter("int", 3, "share kept at a rung is 1/this", low=2),
        },
    ),
    "wilcoxon": Entry(
        "wilcoxon",
        "optuna.pruners:WilcoxonPruner",
        "Stops a configuration whose seeds are, paired, worse than the best one's (a step is a seed)",
        "Optuna; Wilcoxon 1945, signed-rank test",
        {
            "p_threshold": Parameter(
                "float", 0.1, "one-sided p below which it is stopped", low=0, high=1, unit="probability"
            ),
            "n_startup_steps": Parameter("int", 2, "seeds before it may be stopped", low=0, unit="seeds"),
        },
    ),
    "none": Entry("none", "optuna.pruners:NopPruner", "Every trial runs to its end", "Optuna"),
}
