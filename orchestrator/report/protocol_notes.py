"""What must be known to read the tables of the long-tailed and the continual protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.campaign.record import StudyRecord
from orchestrator.report import numbers
from orchestrator.report.comparison import confirm_trials
from orchestrator.report.metrics import sides
from orchestrator.study.regimes import Regime
from orchestrator.study.spec import StudySpec
from workloads.evaluation.imbalance import FEW_BELOW, MANY_ABOVE, class_groups, grouping
from workloads.protocol_config import ContinualConfig, LongTailedConfig


def long_tailed_notes(spec: StudySpec, record: StudyRecord, entry: str, shown: Sequence[Regime]) -> list[str]:
    """Sentences under the table of a long-tailed entry.

    Args:
        shown: the regimes that have rows.
    """
    settings = spec.protocols[entry].settings
    assert isinstance(settings, LongTailedConfig)
    profile = {
        "exp": "sizes fall exponentially from the first class to the last",
        "step": "the second half of the classes is small",
    }
    counts = train_counts(spec, record, shown)
    images = (
        f"; {sum(counts):,} training images, {max(counts):,} of the largest class and {min(counts):,} of "
        "the smallest"
        if counts
        else ""
    )
    beta = numbers.parameter(settings.beta)
    weights = f"images weighted by 1 / effective number of their class (beta {beta})"
    methods = {
        "plain": "the loss as it is",
        "class_balanced": weights,
        "drw": f"{weights} from {numbers.percent(settings.drw_from)} of training on",
        "resampling": "every class drawn equally often",
        "logit_adjustment": f"plain training, then {numbers.parameter(settings.tau)} log(class share) taken "
        "off the logits",
        "crt": "plain training, then a new head on the frozen trunk, every class drawn equally often for "
        f"{numbers.counted(settings.crt_epochs, 'epoch')}",
    }
    return [
        f"Profile {settings.profile} ({profile[settings.profile]}), factor "
        f"{numbers.parameter(settings.factor)}{images}.",
        "Of the last epoch's model, mean ± standard deviation over n seeds, in percent. The test images are "
        "all there and each class weighs the same; the validation images are not long-tailed. "
        f"{_groups(counts)}",
        _words("Methods", methods, [regime.variant for regime in shown]),
        "Balanced: mean of the recalls of the classes; worst class: the lowest; macro-F1 and G-mean: mean F1 "
        "and geometric mean of the recalls (0 where one is)."
        + (f" AUROC: by the {spec.evaluation.headline} score." if _has_ood(spec) else ""),
    ]


def continual_notes(spec: StudySpec, record: StudyRecord, entry: str, shown: Sequence[Regime]) -> list[str]:
    """Sentences under the table of a continual entry.

    Args:
        shown: the regimes that have rows.
    """
    settings = spec.protocols[entry].settings
    assert isinstance(settings, ContinualConfig)
    variants = [regime.variant for regime in shown]
    rows = "as many as a batch has are" if settings.replay_batch is None else f"{settings.replay_batch} are"
    epochs = numbers.counted((spec.protocols[entry].training or spec.training).epochs, "epoch")
    buffer = f"{numbers.counted(settings.buffer, 'image')} in a reservoir, {rows} shown again at each step"
    strategies = {
        "naive": "nothing against forgetting",
        "replay": f"earlier images are learned again ({buffer})",
        "derpp": f"earlier images with the logits of then ({buffer}; alpha "
        f"{numbers.parameter(settings.derpp_alpha)}, beta {numbers.parameter(settings.derpp_beta)})",
        "ewc": "important weights are held (lambda "
        f"{numbers.parameter(settings.ewc_lambda)}, Fisher information of {settings.fisher})",
        "l2": f"all weights are held (lambda {numbers.parameter(settings.l2_lambda)})",
        "lwf": f"the last model's answers are held (lambda {numbers.parameter(settings.lwf_lambda)}, T "
        f"{numbers.parameter(settings.lwf_temperature)})",
        "joint": "all tasks learned at once, for reference: it has no history, and so only what is measured "
        "at the end",
    }
    return [
        _stream(settings, epochs),
        _words("Strategies", strategies, variants),
        "In percent, mean ± standard deviation over n seeds; each task weighs the same. ACC: mean accuracy "
        "over the tasks after the last one; average incremental: mean over the steps of the accuracy on the "
        "tasks so far; learning: on each task just after it.",
        "Forgetting from best: highest accuracy before the last task, less the final one, mean over all "
        "tasks but the last (Chaudhry et al. 2018); from first: the accuracy just after the task less the "
        "final one (Avalanche's), the negative of BWT, backward transfer. Papers seldom say which they mean."
        + _further(spec, settings),
        *_after_the_last(spec),
    ]


def train_counts(spec: StudySpec, record: StudyRecord, shown: Sequence[Regime]) -> tuple[int, ...]:
    """Training images of each class; the same for every arm and seed. Empty where none is recorded."""
    for regime in shown:
        for arm in spec.arms:
            for trial in confirm_trials(spec, record, arm, regime.name).values():
                found = class_values(trial.metrics, "train_images")
                if found and sorted(found) == list(range(len(found))):
                    return tuple(int(found[c]) for c in range(len(found)))
    return ()


def class_values(metrics: Mapping[str, float], name: str) -> dict[int, float]:
    """The metrics ``imbalance/<name>/<class>`` by class index."""
    prefix = f"imbalance/{name}/"
    return {
        int(key.removeprefix(prefix)): value
        for key, value in metrics.items()
        if key.startswith(prefix) and key.removeprefix(prefix).isdigit()
    }


def _groups(counts: Sequence[int]) -> str:
    """Which classes are many, medium and few."""
    if not counts:
        return ""
    sizes = {name: len(members) for name, members in class_groups(counts).items()}
    named = ", ".join(f"{name} {numbers.counted(n, 'class', 'classes')}" for name, n in sizes.items())
    if grouping(counts) == "published":
        return (
            f"By class size: many (more than {MANY_ABOVE} training images), medium ({FEW_BELOW} to "
            f"{MANY_ABOVE}) and few (fewer than {FEW_BELOW}); {named}."
        )
    return f"By class size: thirds of the classes, sorted by training images; {named}."


def _stream(settings: ContinualConfig, epochs: str) -> str:
    streams = {
        "split": "groups of classes",
        "permuted": "all classes, the pixels permuted differently in every task but the first",
        "rotated": "all classes, the images rotated differently in every task",
    }
    scenarios = {
        "class_il": "no task is told, an image is classified among all classes so far",
        "task_il": "the task is told, only its classes count",
        "domain_il": "every task has the same labels",
    }
    drawn = {"split": "classes", "permuted": "permutations", "rotated": "angles"}[settings.stream]
    order = f"{drawn} drawn by the seed, so that arms and strategies share them"
    counts = {
        "task": "of the task (with replayed ones)",
        "seen": "of all tasks so far",
        "total": "of the whole stream",
    }
    return (
        f"Stream: {settings.tasks} tasks of {epochs} each, {streams[settings.stream]}; "
        f"{order if settings.order == 'seed' else f'{drawn} in their natural order'}. Scenario "
        f"{settings.scenario}: {scenarios[settings.scenario]}. Losses that use class counts are told those "
        f"{counts[settings.counts]}."
    )


def _further(spec: StudySpec, settings: ContinualConfig) -> str:
    if settings.scenario == "class_il":
        return " Masked ACC: the same model where the task is told, each image among its task's classes."
    return " FWT: accuracy on a task just before it is learned, less that of the untrained model."


def _after_the_last(spec: StudySpec) -> list[str]:
    """How rejection and calibration are measured."""
    rejection = f"AUROC by the {spec.evaluation.headline} score and " if sides(spec) else ""
    return [
        f"{rejection}ECE ({spec.evaluation.calibration.bins} bins) after the last task, over all tasks; TS: "
        "temperature scaling, fitted on their validation images."
    ]


def _has_ood(spec: StudySpec) -> bool:
    return "ood" in spec.evaluation.measures and bool(sides(spec))


def _words(what: str, meanings: Mapping[str, str], variants: Sequence[str]) -> str:
    return f"{what}: " + "; ".join(f"{variant}, {meanings[variant]}" for variant in variants) + "."
