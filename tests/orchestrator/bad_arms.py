"""Arms, seeds and search-space terms that are refused, as spoilings of the good study."""

from __future__ import annotations

from tests.orchestrator.bad_studies import Case

ARM_CASES = [
    # arms and seeds
    Case(
        "no arms",
        "arms:\n  cross_entropy: {lr: 0.1}\n  logitnorm:\n    tau: {choice: [0.04, 0.1]}\n",
        "arms: {}\n",
        "arms",
        ("at least one arm",),
    ),
    Case(
        "arms as a list",
        "arms:\n  cross_entropy: {lr: 0.1}\n  logitnorm:\n    tau: {choice: [0.04, 0.1]}\n",
        "arms: [cross_entropy]\n",
        "arms",
        ("must be a mapping", "got a list"),
    ),
    Case(
        "arm's name",
        "cross_entropy: {",
        "cross entropy: {loss: cross_entropy, ",
        "arms.cross entropy",
        ("letters, digits",),
    ),
    Case(
        "baseline is no arm",
        "baseline: cross_entropy",
        "baseline: cross_entrpy",
        "baseline",
        ("one of the arms", "mean 'cross_entropy'?"),
    ),
    Case("overlapping seeds", "seeds: [100, 101", "seeds: [1, 101", "confirm.seeds", ("both have 1",)),
    Case("duplicate seeds", "seeds: [0, 1]", "seeds: [0, 0]", "search.seeds", ("got 0 more than once",)),
    Case("no seeds", "seeds: [0, 1]", "seeds: []", "search.seeds", ("at least one item",)),
    Case("study's name", "study: small", "study: My Study", "study", ("got 'My Study'", "output folder")),
    # terms
    Case("not the loss's parameter", "tau: {choice", "tua: {choice", "arms.logitnorm.tua", ("mean 'tau'?",)),
    Case(
        "setting of the study", "{lr: 0.1}", "{epochs: 5}", "arms.cross_entropy.epochs", ("under training",)
    ),
    Case(
        "list without a term",
        "tau: {choice: [0.04, 0.1]}",
        "tau: [0.04, 0.1]",
        "arms.logitnorm.tau",
        ("got a list", "{grid: [...]}"),
    ),
    Case(
        "misspelt term", "{choice: [0.04", "{chioce: [0.04", "arms.logitnorm.tau.chioce", ("mean 'choice'?",)
    ),
    Case(
        "two terms",
        "{choice: [0.04, 0.1]}",
        "{choice: [0.04], grid: [0.1]}",
        "arms.logitnorm.tau",
        ("got 2 keys",),
    ),
    Case("empty choice", "[0.04, 0.1]", "[]", "arms.logitnorm.tau.choice", ("at least one value",)),
    Case("value twice", "[0.04, 0.1]", "[0.1, 0.1]", "arms.logitnorm.tau.choice", ("each value once",)),
    Case(
        "low is zero",
        "choice: [0.04, 0.1]",
        "log_uniform: [0, 1]",
        "arms.logitnorm.tau.log_uniform",
        ("logarithmic scale; got 0",),
    ),
    Case(
        "low above high",
        "choice: [0.04, 0.1]",
        "uniform: [1, 0.5]",
        "arms.logitnorm.tau.uniform",
        ("smaller than high; got [1, 0.5]",),
    ),
    Case(
        "three bounds",
        "choice: [0.04, 0.1]",
        "uniform: [1, 2, 3]",
        "arms.logitnorm.tau.uniform",
        ("got 3 values",),
    ),
    Case(
        "out of the parameter's range",
        "[0.04, 0.1]",
        "[0.04, -0.1]",
        "arms.logitnorm.tau.choice",
        ("must be above 0", "got -0.1"),
    ),
    Case(
        "whole numbers of a fraction",
        "choice: [0.04, 0.1]",
        "int_uniform: [1, 5]",
        "arms.logitnorm.tau.int_uniform",
        ("Write uniform",),
    ),
    Case(
        "fractions of a whole number",
        "{lr: 0.1}",
        "{batch_size: {uniform: [8, 64]}}",
        "arms.cross_entropy.batch_size.uniform",
        ("Write int_uniform",),
    ),
    Case(
        "interval of words",
        "  logitnorm:\n    tau: {choice: [0.04, 0.1]}",
        "  hem: {threshold: {uniform: [0, 1]}}",
        "arms.hem.threshold.uniform",
        ("takes words",),
    ),
    Case(
        "1e-3 in a term", "[0.04, 0.1]", "[1e-3, 0.1]", "arms.logitnorm.tau.choice[0]", ("0.001 or 1.0e-3",)
    ),
    Case(
        "misspelt expression",
        "  logitnorm:\n    tau: {choice: [0.04, 0.1]}",
        "  hem: {mu: {scal: 200}}",
        "arms.hem.mu.scal",
        ("mean 'scale'?",),
    ),
    Case(
        "expression out of range",
        "  logitnorm:\n    tau: {choice: [0.04, 0.1]}",
        "  hem: {mu: {scale: -1}}",
        "arms.hem.mu.scale",
        ("above 0", "got -1"),
    ),
    Case(
        "unknown word of a choice",
        "  logitnorm:\n    tau: {choice: [0.04, 0.1]}",
        "  hem: {threshold: bach}",
        "arms.hem.threshold",
        ("mean 'batch'?",),
    ),
    Case(
        "grid of a continuous term",
        "tau: {choice: [0.04, 0.1]}",
        "tau: {uniform: [0.04, 0.1]}",
        "arms.logitnorm.tau",
        ("the grid sampler needs finite terms; got uniform 0.04 .. 0.1", "{grid: [...]}"),
    ),
    Case(
        "grid of recommended ranges",
        "  logitnorm:\n    tau: {choice: [0.04, 0.1]}",
        "  logitnorm:",
        "arms.logitnorm.tau",
        ("an arm that sets nothing searches the recommended ranges",),
    ),
]
