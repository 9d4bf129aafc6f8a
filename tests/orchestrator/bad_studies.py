"""A good study, and many ways to spoil it: what is replaced, and what must be said about it.

Those of arms and their search spaces are in ``bad_arms``, those of protocols in ``bad_protocols``.
"""

from __future__ import annotations

from dataclasses import dataclass

GOOD = """\
study: small
baseline: cross_entropy
data:
  source: digits
  id_classes: [0, 1, 2, 3]
  near_ood: [held_out]
  far_ood: [uniform, blobs]
model: small_cnn_8x8
training:
  epochs: 10
  lr: 0.1
arms:
  cross_entropy: {lr: 0.1}
  logitnorm:
    tau: {choice: [0.04, 0.1]}
search:
  sampler: grid
  trials: 4
  seeds: [0, 1]
confirm:
  seeds: [100, 101, 102, 103, 104]
"""


@dataclass(frozen=True)
class Case:
    """One mistake: ``old`` becomes ``new``; the problem stands where ``at`` (else ``new``) stands."""

    name: str
    old: str
    new: str
    path: str
    says: tuple[str, ...]
    at: str = ""


CASES = [
    # keys
    Case("misspelt key", "epochs: 10", "epoch: 10", "training.epoch", ("unknown key", "mean 'epochs'?")),
    Case("misspelt block", "search:", "serch:", "serch", ("unknown key", "mean 'search'?")),
    Case(
        "key of another block", "trials: 4", "momentum: 0.5", "search.momentum", ("mean training.momentum?",)
    ),
    Case(
        "duplicate key",
        "  lr: 0.1\n",
        "  lr: 0.1\n  lr: 0.2\n",
        "training.lr",
        ("twice", "line 11"),
        "lr: 0.2",
    ),
    Case(
        "duplicate arm",
        "  logitnorm:",
        "  cross_entropy:",
        "arms.cross_entropy",
        ("twice, first on line 13",),
        "  cross_entropy:\n",
    ),
    Case("key that is no text", "  trials: 4", "  1: 4", "search", ("a key must be text", "got 1"), "1: 4"),
    Case("merge key", "trials: 4", "<<: {trials: 4}", "search", ("merge keys",)),
    Case("missing study name", "study: small\n", "", "study", ("required, and missing",), "baseline"),
    Case("missing source", "  source: digits\n", "", "data.source", ("required",), "  id_classes"),
    Case("missing model", "model: small_cnn_8x8\n", "", "model", ("required",), "study"),
    Case("missing arms", "arms:", "arm:", "arms", ("required",), "study"),
    # types
    Case("1e-3", "  lr: 0.1\n", "  lr: 1e-3\n", "training.lr", ("got '1e-3'", "write 0.001 or 1.0e-3")),
    Case("1.0e3", "{lr: 0.1}", "{lr: 1.0e3}", "arms.cross_entropy.lr", ("write 1000 or 1.0e+3",)),
    Case("octal", "epochs: 10", "epochs: 012", "training.epochs", ("got 012", "octal number, 10: write 12")),
    Case("not a number", "  lr: 0.1\n", "  lr: .nan\n", "training.lr", ("finite number", "got .nan")),
    Case("infinite", "  lr: 0.1\n", "  lr: .inf\n", "training.lr", ("finite number",)),
    Case("overflow", "  lr: 0.1\n", "  lr: 1.0e+999\n", "training.lr", ("finite number",)),
    Case("quoted number", "epochs: 10", 'epochs: "10"', "training.epochs", ("got '10'", "Remove the quotes")),
    Case(
        "word for a number", "epochs: 10", "epochs: ten", "training.epochs", ("must be a number; got 'ten'",)
    ),
    Case(
        "fraction for a count", "epochs: 10", "epochs: 10.0", "training.epochs", ("whole number", "Write 10")
    ),
    Case("truth for a number", "epochs: 10", "epochs: yes", "training.epochs", ("yes", "a truth value")),
    Case("huge number", "seeds: [0, 1]", "seeds: [0, " + "9" * 5000 + "]", "search.seeds[1]", ("digits",)),
    Case(
        "number for truth",
        "epochs: 10",
        "nesterov: 1",
        "training.nesterov",
        ("must be true or false; got 1",),
    ),
    Case("no for a word", "sampler: grid", "sampler: no", "search.sampler", ("tpe, random, grid", "got no")),
    Case(
        "off for a pruner",
        "trials: 4",
        "pruner: off",
        "search.pruner",
        ("got off, which YAML reads as a truth",),
    ),
    Case("on as a name", "study: small", "study: on", "study", ("must be text; got on", 'Write "on"')),
    Case("number as a name", "study: small", "study: 7", "study", ("must be text", 'Write "7"')),
    Case("date as a name", "study: small", "study: 2026-01-31", "study", ("which YAML reads as a date",)),
    Case("one seed, no list", "seeds: [0, 1]", "seeds: 0", "search.seeds", ("must be a list", "Write [0]")),
    Case(
        "list for a block", "training:\n  epochs: 10\n  lr: 0.1", "training: [1]", "training", ("a mapping",)
    ),
    Case(
        "None for null",
        "model:",
        "execution: {max_concurrent: None}\nmodel:",
        "execution.max_concurrent",
        ("Write null",),
        "execution",
    ),
    Case("bad word", "sampler: grid", "sampler: gird", "search.sampler", ("mean 'grid'?",)),
    # ranges
    Case("no epochs", "epochs: 10", "epochs: 0", "training.epochs", ("must be at least 1; got 0",)),
    Case("negative lr", "  lr: 0.1\n", "  lr: -0.1\n", "training.lr", ("must be above 0; got -0.1",)),
    Case(
        "fraction above 1",
        "  source: digits",
        "  source: digits\n  validation_fraction: 1.5",
        "data.validation_fraction",
        ("above 0 and below 1; got 1.5",),
        "validation_fraction",
    ),
    Case("negative seed", "seeds: [0, 1]", "seeds: [0, -1]", "search.seeds", ("got -1",)),
    Case(
        "evaluates too rarely",
        "epochs: 10",
        "epochs: 10\n  evaluate_every: 11",
        "training.evaluate_every",
        ("at most training.epochs (10); got 11",),
        "evaluate_every",
    ),
    Case(
        "warm-up of all epochs",
        "epochs: 10",
        "epochs: 10\n  warmup_epochs: 10",
        "training.warmup_epochs",
        ("fewer than training.epochs (10); got 10",),
        "warmup",
    ),
    Case(
        "pruner warm-up",
        "trials: 4",
        "pruner: {name: median, warmup_epochs: 10}",
        "search.pruner.warmup_epochs",
        ("fewer than training.epochs (10)",),
    ),
    Case(
        "a pruner that looks at running configurations, in deterministic mode",
        "trials: 4",
        "parallel: 3\n  pruner: hyperband",
        "search.parallel",
        ("must be 1 in deterministic mode with the hyperband pruner", "got 3", "deterministic: false"),
        "parallel",
    ),
    Case(
        "falling milestones",
        "epochs: 10",
        "epochs: 10\n  milestones: [0.7, 0.4]",
        "training.milestones",
        ("must increase; got [0.7, 0.4]",),
        "milestones",
    ),
    Case(
        "nesterov alone",
        "epochs: 10",
        "epochs: 10\n  nesterov: true\n  momentum: 0.0",
        "training.nesterov",
        ("needs momentum above 0",),
        "nesterov",
    ),
    Case(
        "lowest losses of no share",
        "epochs: 10",
        "skip: {rule: lowest_loss}",
        "training.skip.share",
        ("must be above 0 with rule lowest_loss; got 0",),
    ),
    Case(
        "a random control of no share",
        "epochs: 10",
        "skip: {rule: random, share: 0.0}",
        "training.skip.share",
        ("must be above 0 with rule random",),
    ),
    Case(
        "everything sits out",
        "epochs: 10",
        "skip: {rule: random, share: 1.0}",
        "training.skip.share",
        ("at least 0 and below 1; got 1",),
    ),
    Case(
        "sits out no epoch",
        "epochs: 10",
        "skip: {rule: zero_loss, epochs: 0}",
        "training.skip.epochs",
        ("at least 1; got 0",),
    ),
    Case(
        "recheck above 1",
        "epochs: 10",
        "skip: {rule: zero_loss, recheck: 2}",
        "training.skip.recheck",
        ("at least 0 and at most 1; got 2",),
    ),
    Case(
        "unknown rule",
        "epochs: 10",
        "skip: {rule: zero}",
        "training.skip.rule",
        ("none, zero_loss, lowest_loss, random",),
    ),
    Case(
        "lowest losses of no share, augmented more",
        "epochs: 10",
        "saturated: {rule: lowest_loss}",
        "training.saturated.share",
        ("must be above 0 with rule lowest_loss; got 0",),
    ),
    Case(
        "a magnitude that RandAugment has not",
        "epochs: 10",
        "saturated: {rule: random, magnitude: 31}",
        "training.saturated.magnitude",
        ("at least 0 and at most 30; got 31",),
    ),
    Case(
        "no operation",
        "epochs: 10",
        "saturated: {rule: random, operations: 0}",
        "training.saturated.operations",
        ("at least 1; got 0",),
    ),
    Case(
        "chosen by the loss of mixed images",
        "epochs: 10",
        "saturated: {rule: zero_loss}\n  augmentation: {cutmix: 1.0}",
        "training.saturated",
        ("training.augmentation.cutmix mixes them; got rule zero_loss",),
        "saturated",
    ),
    Case(
        "chosen by the loss of a triplet",
        "epochs: 10\n  lr: 0.1\narms:\n  cross_entropy: {lr: 0.1}",
        "skip: {rule: zero_loss}\n  lr: 0.1\narms:\n  cross_entropy: {lr: 0.1, triplet: 0.5}",
        "arms.cross_entropy.triplet",
        ("a triplet loss is one number a batch, and training.skip needs the loss of each image",),
        "  cross_entropy: {lr",
    ),
    # catalogues
    Case(
        "unknown loss", "  logitnorm:", "  logitnrom:", "arms.logitnrom", ("mean 'logitnorm'?", "{loss: NAME")
    ),
    Case(
        "unknown named loss",
        "cross_entropy: {lr: 0.1}",
        "cross_entropy: {loss: crossentropy}",
        "arms.cross_entropy.loss",
        ("mean 'cross_entropy'?",),
    ),
    Case(
        "bad import path",
        "cross_entropy: {lr: 0.1}",
        'cross_entropy: {loss: "my loss:X"}',
        "arms.cross_entropy.loss",
        ("module:Class",),
    ),
    Case("unknown model", "small_cnn_8x8", "small_cnn_8", "model", ("mean 'small_cnn_8x8'?",)),
    Case(
        "unknown model parameter",
        "model: small_cnn_8x8",
        "model: {name: small_cnn_8x8, params: {widht: 8}}",
        "model.params.widht",
        ("mean 'width'?",),
    ),
    Case(
        "model parameter out of range",
        "model: small_cnn_8x8",
        "model: {name: small_cnn_8x8, params: {width: 0}}",
        "model.params.width",
        ("at least 1; got 0",),
    ),
    Case("model without name", "model: small_cnn_8x8", "model: {params: {}}", "model.name", ("required",)),
    Case("unknown source", "source: digits", "source: digit", "data.source", ("mean 'digits'?",)),
    Case("unknown near set", "[held_out]", "[heldout]", "data.near_ood", ("mean 'held_out'?",)),
    Case("a set named twice", "[held_out]", "[blobs]", "data.far_ood", ("both have blobs",), "far_ood"),
    Case(
        "a set that is the source", "[held_out]", "[digits]", "data.near_ood", ("not be the source itself",)
    ),
    Case(
        "constants that nobody published",
        "  near_ood: [held_out]\n",
        "  near_ood: [held_out]\n  normalisation: stated\n",
        "data.normalisation",
        ("no mean and standard deviation are published for digits",),
        "normalisation",
    ),
    Case(
        "nothing held out",
        "  id_classes: [0, 1, 2, 3]\n",
        "",
        "data.near_ood",
        ("held_out is empty",),
        "near_ood",
    ),
    Case("class too high", "[0, 1, 2, 3]", "[0, 1, 10]", "data.id_classes", ("0 to 9; got 10",)),
    Case("one class", "[0, 1, 2, 3]", "[3]", "data.id_classes", ("at least two classes; got 1",)),
    Case("class twice", "[0, 1, 2, 3]", "[0, 1, 1]", "data.id_classes", ("once; got 1 more than once",)),
    Case(
        "unknown score",
        "model:",
        "evaluate: {ood: {scores: [mps], headline: mps}}\nmodel:",
        "evaluate.ood.scores",
        ("mean 'msp'?",),
        "evaluate",
    ),
    Case(
        "headline not scored",
        "model:",
        "evaluate: {ood: {scores: [mls]}}\nmodel:",
        "evaluate.ood.headline",
        ("one of evaluate.ood.scores; got 'msp'",),
        "evaluate",
    ),
    Case(
        "unknown metric",
        "model:",
        "report: {primary: [ood/near/fpr]}\nmodel:",
        "report.primary",
        ("mean 'ood/near/fpr95'?",),
        "report",
    ),
    Case(
        "metric of an evaluation that is not asked for",
        "model:",
        "evaluate: [calibration]\nmodel:",
        "report.primary",
        ("ood/near/fpr95 needs the evaluation ood", "Add ood to evaluate"),
        "study",
    ),
    Case(
        "metric of no set",
        "  near_ood: [held_out]\n",
        "",
        "report.primary",
        ("ood/near/fpr95 needs near-OOD sets", "primary: [...]"),
        "study",
    ),
    Case("unknown pruner", "trials: 4", "pruner: medain", "search.pruner", ("mean 'median'?",)),
    Case(
        "unknown pruner parameter",
        "trials: 4",
        "pruner: {name: median, n_startup: 2}",
        "search.pruner.n_startup",
        ("mean 'n_startup_trials'?",),
    ),
    Case(
        "pruner parameter out of range",
        "trials: 4",
        "pruner: {name: hyperband, reduction_factor: 1}",
        "search.pruner.reduction_factor",
        ("at least 2; got 1",),
    ),
    # files
    Case("tab", "  epochs: 10", "\tepochs: 10", "", ("is not YAML",)),
    Case("unclosed list", "[0, 1, 2, 3]", "[0, 1, 2, 3", "", ("is not YAML",), "  near_ood"),
    Case("two documents", "arms:", "---\narms:", "", ("is not YAML",), "---"),
]
