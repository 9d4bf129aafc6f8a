"""Ways to spoil the ``protocols`` of the good study (four classes of the digits), and what must be said."""

from __future__ import annotations

from tests.orchestrator.bad_studies import Case

_PLACE = "search:\n"


def _case(name: str, text: str, path: str, *says: str, at: str = "") -> Case:
    """``text`` stands before ``search``; the problem is on the line where ``at`` stands, else the first."""
    at = at or text.splitlines()[0]
    return Case(name, _PLACE, f"{text}\n{_PLACE}", path, says, at)


_STREAM = "protocols: {{continual: {{tasks: 2, {}}}}}"
_TAIL = "protocols: {{long_tailed: {{factor: 10, {}}}}}"

PROTOCOL_CASES = [
    # the list, and the names of the mapping
    _case("one word", "protocols: standard", "protocols", "must be a list of", "'standard'", "[standard]"),
    _case("nothing said", "protocols:", "protocols", "must be a list of", "got nothing", "Write [standard]"),
    _case("a number", "protocols: 5", "protocols", "a list of protocols, or a mapping; got 5. Write [stand"),
    _case("no protocol in the list", "protocols: []", "protocols", "at least one item; got an empty list"),
    _case("no protocol in the mapping", "protocols: {}", "protocols", "at least one protocol; got none"),
    _case("doubled protocol", "protocols: [standard, standard]", "protocols", "once; got standard more than"),
    _case(
        "misspelt in the list",
        "protocols: [standard, long_taild]",
        "protocols[1]",
        "must be one of standard, long_tailed, continual; got 'long_taild'. Did you mean 'long_tailed'?",
    ),
    _case(
        "misspelt in the mapping",
        "protocols:\n  standard:\n  continuel: {tasks: 2}",
        "protocols.continuel",
        "unknown protocol. Did you mean 'continual'? A name of your own says its protocol: {protocol: ",
        at="  continuel",
    ),
    _case(
        "own name of nothing",
        "protocols:\n  standard:\n  mine:",
        "protocols.mine",
        "unknown protocol. A name of your own says",
        at="  mine",
    ),
    _case(
        "own name of a misspelt protocol",
        "protocols:\n  standard:\n  mine: {protocol: continuel}",
        "protocols.mine.protocol",
        "must be one of standard, long_tailed, continual; got 'continuel'. Did you mean 'continual'?",
        at="  mine",
    ),
    _case(
        "own name that no folder could have",
        "protocols:\n  standard:\n  My/stream: {protocol: continual, tasks: 2}",
        "protocols.My/stream",
        "must be of a-z, 0-9 and _, and start with a letter or digit; got 'My/stream'",
        at="  My/",
    ),
    _case(
        "doubled name",
        "protocols:\n  continual: {tasks: 2}\n  continual: {tasks: 4}",
        "protocols.continual",
        "the key stands twice, first on line 17",
        at="  continual: {tasks: 4}",
    ),
    _case("no mapping", "protocols: {continual: naive}", "protocols.continual", "a mapping", "got 'naive'"),
    _case(
        "protocol said twice",
        "protocols: {long_tailed: {protocol: long_tailed}}",
        "protocols.long_tailed.protocol",
        "is said by the name already. Leave it out",
    ),
    # the standard protocol
    _case(
        "settings of the standard protocol",
        "protocols: {standard: {training: {epochs: 3}}}",
        "protocols.standard.training",
        "the standard protocol has no settings. The study's own training, search and evaluate are",
    ),
    _case(
        "the standard protocol under another name",
        "protocols: {standard: , again: {protocol: standard}}",
        "protocols.again",
        "stands once, under its own name. Write standard:",
    ),
    # methods and strategies
    _case("one method", _TAIL.format("method: drw"), "protocols.long_tailed.method", "methods? It is a list"),
    _case(
        "one strategy", _STREAM.format("strategy: lwf"), "protocols.continual.strategy", "strategies? It is"
    ),
    _case(
        "a method that is no list",
        _TAIL.format("methods: drw"),
        "protocols.long_tailed.methods",
        "must be a list; got 'drw'. Write [drw]",
    ),
    _case(
        "unknown method",
        _TAIL.format("methods: [plain, dwr]"),
        "protocols.long_tailed.methods[1]",
        "must be one of plain, class_balanced, drw, resampling, logit_adjustment, crt; got 'dwr'. Did you "
        "mean 'drw'?",
    ),
    _case(
        "unknown strategy",
        _STREAM.format("strategies: [naive, repaly]"),
        "protocols.continual.strategies[1]",
        "must be one of naive, replay, derpp, ewc, l2, lwf, joint; got 'repaly'. Did you mean 'replay'?",
    ),
    _case(
        "doubled method",
        _TAIL.format("methods: [crt, plain, crt]"),
        "protocols.long_tailed.methods",
        "must hold each item once; got crt more than once",
    ),
    _case(
        "doubled strategy",
        _STREAM.format("strategies: [lwf, lwf]"),
        "protocols.continual.strategies",
        "once; got lwf more than once",
    ),
    _case("no method", _TAIL.format("methods: []"), "protocols.long_tailed.methods", "got an empty list"),
    _case(
        "no strategy", _STREAM.format("strategies: []"), "protocols.continual.strategies", "got an empty list"
    ),
    _case(
        "strategies of a long tail",
        _TAIL.format("strategies: [naive]"),
        "protocols.long_tailed.strategies",
        "unknown key. Known: parameters, training, methods, profile, factor",
    ),
    _case(
        "misspelt key",
        _STREAM.format("trainning: {epochs: 2}"),
        "protocols.continual.trainning",
        "unknown key. Did you mean 'training'?",
    ),
    _case(
        "parameters of another word",
        _TAIL.format("parameters: default"),
        "protocols.long_tailed.parameters",
        "must be one of winner, defaults; got 'default'. Did you mean 'defaults'?",
    ),
    # ranges
    _case(
        "a factor below 1",
        "protocols: {long_tailed: {factor: 0.5}}",
        "protocols.long_tailed.factor",
        "t least 1",
    ),
    _case(
        "drw from beyond the end", _TAIL.format("drw_from: 1.5"), "protocols.long_tailed.drw_from", "t most 1"
    ),
    _case(
        "an effective number of all", _TAIL.format("beta: 1"), "protocols.long_tailed.beta", "below 1; got 1"
    ),
    _case("a negative tau", _TAIL.format("tau: -1"), "protocols.long_tailed.tau", "at least 0; got -1"),
    _case(
        "no epoch of crt",
        _TAIL.format("crt_epochs: 0"),
        "protocols.long_tailed.crt_epochs",
        "at least 1; got 0",
    ),
    _case(
        "a negative seed", _TAIL.format("subset_seed: -1"), "protocols.long_tailed.subset_seed", "at least 0"
    ),
    _case(
        "another profile",
        _TAIL.format("profile: expo"),
        "protocols.long_tailed.profile",
        "exp, step; got 'expo'",
    ),
    _case("one task", "protocols: {continual: {tasks: 1}}", "protocols.continual.tasks", "at least 2; got 1"),
    _case("no buffer", _STREAM.format("buffer: 0"), "protocols.continual.buffer", "at least 1; got 0"),
    _case(
        "nothing replayed",
        _STREAM.format("replay_batch: 0"),
        "protocols.continual.replay_batch",
        "at least 1",
    ),
    _case(
        "a negative alpha", _STREAM.format("derpp_alpha: -1"), "protocols.continual.derpp_alpha", "at least 0"
    ),
    _case(
        "a negative beta", _STREAM.format("derpp_beta: -1"), "protocols.continual.derpp_beta", "at least 0"
    ),
    _case(
        "a negative lambda", _STREAM.format("ewc_lambda: -1"), "protocols.continual.ewc_lambda", "at least 0"
    ),
    _case(
        "no image for F",
        _STREAM.format("fisher_images: 0"),
        "protocols.continual.fisher_images",
        "at least 1",
    ),
    _case(
        "a negative l2",
        _STREAM.format("l2_lambda: -1"),
        "protocols.continual.l2_lambda",
        "at least 0; got -1",
    ),
    _case(
        "a negative lwf",
        _STREAM.format("lwf_lambda: -1"),
        "protocols.continual.lwf_lambda",
        "at least 0; got",
    ),
    _case(
        "no temperature",
        _STREAM.format("lwf_temperature: 0"),
        "protocols.continual.lwf_temperature",
        "above 0",
    ),
    _case(
        "no OOD image", _STREAM.format("ood_images: 0"), "protocols.continual.ood_images", "at least 1; got 0"
    ),
    _case(
        "another order",
        _STREAM.format("order: random"),
        "protocols.continual.order",
        "seed, natural; got 'ran",
    ),
    _case(
        "other counts",
        _STREAM.format("counts: all"),
        "protocols.continual.counts",
        "task, seen, total; got 'all",
    ),
    # what the published sizes of the digits say
    _case(
        "a class without an image",
        "protocols:\n  long_tailed:\n    methods: [plain]\n    factor: 1000",
        "protocols.long_tailed.factor",
        # 95 images of digit 0: 95, 9, 0 and 0 stay, and with factor 95 one image of digit 3.
        "factor 1000.0 leaves class 2 without an image. The largest whole factor that these classes allow "
        "is 95",
        at="    factor",
    ),
    _case(
        "a default factor that is too large",
        "protocols: [standard, long_tailed]",
        "protocols.long_tailed.factor",
        "factor 100.0 leaves class 3 without an image",
    ),
    _case(
        "more tasks than classes",
        "protocols: {continual: {tasks: 5}}",
        "protocols.continual.tasks",
        "4 classes cannot be cut into 5 tasks, one class each. Numbers of tasks that work: 2 for",
    ),
    _case(
        "tasks of unequal size",
        "protocols: {continual: {tasks: 3}}",
        "protocols.continual.tasks",
        "4 classes cannot be cut into 3 tasks of equal size. Numbers of tasks that work: 2 for",
    ),
    _case(
        "tasks of one class that is told",
        "protocols: {continual: {tasks: 4, scenario: task_il}}",
        "protocols.continual.tasks",
        "4 tasks of 4 classes show one class each",
    ),
    _case(
        "new classes of permuted images",
        _STREAM.format("stream: permuted"),
        "protocols.continual.scenario",
        "a permuted stream has the same classes in every task, so class_il",
        "Write scenario domain_il, or stream split",
    ),
    _case(
        "told tasks of rotated images",
        _STREAM.format("stream: rotated, scenario: task_il"),
        "protocols.continual.scenario",
        "a rotated stream has the same labels in every task, so task_il",
    ),
    _case(
        "a buffer of everything",
        _STREAM.format("strategies: [naive, derpp], buffer: 500"),
        "protocols.continual.buffer",
        # 178, 182, 177 and 183 digits; a third is for the test, a fifth of the rest for validation.
        "must be at most the 384 training images of the stream; got 500",
    ),
    # their own training
    _case(
        "an own training without an end of its warm-up",
        _STREAM.format("training: {epochs: 2, warmup_epochs: 2}"),
        "protocols.continual.training.warmup_epochs",
        "must be fewer than protocols.continual.training.epochs (2); got 2",
    ),
    _case(
        "an own training that never reports",
        _TAIL.format("training: {epochs: 2, evaluate_every: 3}"),
        "protocols.long_tailed.training.evaluate_every",
        "must be at most protocols.long_tailed.training.epochs (2); got 3",
    ),
    _case(
        "an own warm-up before one that is built in",
        _TAIL.format("training: {schedule: one_cycle, warmup_epochs: 1}"),
        "protocols.long_tailed.training.warmup_epochs",
        "must be 0 with schedule one_cycle",
    ),
    _case(
        "an own training below the study's rate",
        _TAIL.format("training: {min_lr: 0.5}"),
        "protocols.long_tailed.training.min_lr",
        "must be at most protocols.long_tailed.training.lr (0.1); got 0.5",
    ),
    _case(
        "a misspelt own training",
        _TAIL.format("training: {epoch: 2}"),
        "protocols.long_tailed.training.epoch",
        "unknown key. Did you mean 'epochs'?",
    ),
    _case(
        "own images chosen by losses, of no share",
        _TAIL.format("training: {skip: {rule: lowest_loss}}"),
        "protocols.long_tailed.training.skip.share",
        "must be above 0 with rule lowest_loss; got 0",
    ),
    _case(
        "a stream of mixed images",
        _STREAM.format("training: {augmentation: {cutmix: 1.0}}"),
        "protocols.continual.training.augmentation.cutmix",
        "a stream is not trained with cutmix, which would mix labels with those of replayed images",
    ),
    Case(
        "a stream of images that the study mixes",
        "  lr: 0.1\narms:\n",
        "  lr: 0.1\n  augmentation: {mixup: 0.2}\nprotocols:\n  continual: {tasks: 2}\narms:\n",
        "protocols.continual",
        ("not trained with mixup", "Write training: {augmentation: {mixup: 0.0}} in it"),
        "  continual:",
    ),
    Case(
        "a hard loss in a protocol that mixes",
        "  logitnorm:\n    tau: {choice: [0.04, 0.1]}",
        "  hem: {lr: 0.1}\nprotocols: {long_tailed: {factor: 10, training: {augmentation: {mixup: 0.2}}}}",
        "arms.hem",
        ("hem takes hard labels only, and protocols.long_tailed.training.augmentation.mixup mixes labels",),
        "  hem",
    ),
    # what the report rests on
    _case(
        "imbalance without a long tail",
        "report: {primary: [imbalance/worst_class]}",
        "report.primary",
        "imbalance/worst_class needs the protocol long_tailed, which the study does not have. Add it to prot",
    ),
    _case(
        "another scenario than the stream's",
        "report: {primary: [continual/task_il/accuracy]}\nprotocols: {continual: {tasks: 2}}",
        "report.primary",
        "unknown metric; got 'continual/task_il/accuracy'. Did you mean 'continual/class_il/accuracy'?",
    ),
    _case(
        "a method that the study has not",
        "report: {primary: ['long_tailed/drw:imbalance/g_mean']}\nprotocols: {long_tailed: {factor: 10}}",
        "report.primary",
        "unknown metric; got 'long_tailed/drw:imbalance/g_mean'. Did you mean 'imbalance/g_mean'?",
    ),
    _case(
        "robustness of a long tail, not asked for",
        "report: {primary: ['long_tailed/plain:robustness/worst/eps_2']}\n"
        "protocols: {long_tailed: {factor: 9}}",
        "report.primary",
        "needs the evaluation robustness, which is not asked for",
    ),
]
