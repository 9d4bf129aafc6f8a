"""A study's plan as text."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from orchestrator.report.catalogue_text import WIDTH, columns, default_text
from orchestrator.study import terms
from orchestrator.study.dump import to_yaml
from orchestrator.study.plan import CPU_FLOPS, GPU_FLOPS, ArmPlan, Reach, StudyPlan, TimeEstimate
from orchestrator.study.regimes import main_regime, regimes
from orchestrator.study.spec import StudySpec
from workloads.losses.catalogue import LOSSES


def plan_text(spec: StudySpec, plan: StudyPlan, notes: Sequence[str]) -> str:
    """The whole answer of ``orchestrate plan``: arms, trials, time, statistics, notes, the complete study."""
    blocks = [
        [f"Study {spec.name}", *_wrapped(" ".join(spec.question.split()))],
        ["Arms", *(line for arm in plan.arms for line in _arm(spec, arm))],
        ["Trials", *columns(_counts(plan)), *(line for s in _stages(spec) for line in _wrapped(s))],
        ["Time", *_wrapped(_time(spec, plan.time))],
        ["What the statistics can show", *_wrapped(reach_text(plan.reach))],
        ["Notes", *(line for note in notes for line in _wrapped(note, "- "))] if notes else [],
        ["The complete study, with every default", "", textwrap.indent(to_yaml(spec).rstrip(), "  ")],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _wrapped(text: str, bullet: str = "") -> list[str]:
    start = "  " + bullet
    return textwrap.wrap(text, WIDTH, initial_indent=start, subsequent_indent=" " * len(start))


def _arm(spec: StudySpec, arm: ArmPlan) -> list[str]:
    role = ", the baseline" if arm.name == spec.baseline else ""
    loss = f", loss {arm.loss}" if arm.loss != arm.name else ""
    ways = terms.space_size(arm.space)
    size = "a continuous space" if ways is None else f"{ways} configuration{'s' if ways > 1 else ''}"
    rows = [(name, terms.describe(term)) for name, term in arm.space.items()]
    if "lr" not in arm.space:
        rows.append(("lr", f"{spec.training.lr:g} (training.lr)"))
    entry = LOSSES.get(arm.loss)
    set_here = {name.partition(".")[0] for name in arm.space}
    for name, parameter in entry.parameters.items() if entry else ():
        if name not in set_here:
            rows.append((name, f"{default_text(parameter)} (default)"))
    return [f"  {arm.name}{role}{loss}: {size}", *columns(rows, "      ")]


def _counts(plan: StudyPlan) -> list[tuple[str, ...]]:
    audited = ("audit trials",) if plan.audit_trials else ()
    heads = ("arm", "configurations", "search trials", "confirm trials", *audited, "together")
    rows: list[tuple[str, ...]] = [heads]
    for arm in plan.arms:
        stages = (arm.search_trials, arm.confirm_trials, *([arm.audit_trials] if audited else []))
        rows.append((arm.name, *map(str, (arm.configurations, *stages, sum(stages)))))
    every = (plan.search_trials, plan.confirm_trials, *([plan.audit_trials] if audited else []))
    sums = (*every, sum(every))
    rows.append(("all", str(sum(a.configurations for a in plan.arms)), *map(str, sums)))
    return [tuple(cell.rjust(14) if i else cell for i, cell in enumerate(row)) for row in rows]


def _stages(spec: StudySpec) -> list[str]:
    search, seeds = spec.search, len(spec.search.seeds)
    rule = "nothing is stopped early"
    if search.pruner.name != "none":
        first = search.pruner.warmup_epochs + 1
        rule = f"stopped early by {search.pruner.name} from epoch {first} of {spec.training.epochs}"
    ways = f"{search.sampler} sampler, {seeds} seed{'s' if seeds > 1 else ''} a configuration, {rule}"
    fresh = len(spec.confirm.seeds)
    names = list(regimes(spec))
    each = "" if names == ["standard"] else f", in each of {', '.join(names)}"
    return [
        f"Search: {ways}; on validation data only. These are the most that can run.",
        *_limits(spec),
        f"Confirm: each arm's winner on {fresh} fresh seed{'s' if fresh > 1 else ''}{each}; test data are "
        "opened.",
        *_audits(spec),
    ]


def _audits(spec: StudySpec) -> list[str]:
    """What is checked when everything is chosen."""
    pruned, proxy, seeds = spec.audit.pruned, spec.audit.proxy, len(spec.search.seeds)
    drawn = []
    if pruned is not None:
        drawn.append(f"{pruned} of those that the pruner stopped, run to the end")
    if proxy is not None:
        drawn.append(f"{proxy.configurations} of all, measured on real OOD")
    if not drawn:
        return []
    return [
        f"Audit: when everything is chosen, of the configurations of each arm, drawn at random, at most "
        f"{', and '.join(drawn)}; each on {seeds} search seed{'s' if seeds > 1 else ''}. It changes nothing "
        "that was chosen."
    ]


def _limits(spec: StudySpec) -> list[str]:
    """What ends a search early, and how often it is done."""
    budget, said = spec.budget, []
    each = " of each repeat" if spec.search.repeats > 1 else ""
    limits = {
        "trials": f"{budget.trials} trials an arm{each}",
        "device_seconds": f"{duration(budget.device_seconds or 0)} of device time an arm{each}",
        "wall_seconds": f"{duration(budget.wall_seconds or 0)} of the study's running time",
    }
    given = [text for name, text in limits.items() if getattr(budget, name) is not None]
    if given:
        said.append(f"Budget: a search ends at {', or at '.join(given)}; the best so far is confirmed.")
    if spec.search.repeats > 1:
        said.append(
            f"Repeats: every search is done {spec.search.repeats} times, with other draws and training "
            f"seeds; each winner is confirmed in the regime {main_regime(spec)}. Tables rest on the first."
        )
    return said


def _time(spec: StudySpec, time: TimeEstimate | None) -> str:
    if time is None:
        return "Unknown: the catalogues hold no operation count for this model and data."
    head = f"About {duration(time.seconds)} at most, with {time.side_by_side} trial(s) side by side."
    if time.measured:
        each = ", ".join(f"{name} {seconds:.3g} s" for name, seconds in time.trial_seconds.items())
        return f"{head} From the trials that this study has already run; a full trial takes: {each}."
    seconds = next(iter(time.trial_seconds.values()))
    speed = f"{CPU_FLOPS / 1e9:g} GFLOP/s a CPU core"
    if spec.resources.on_gpu:
        speed = f"{GPU_FLOPS / 1e12:g} TFLOP/s a GPU (a tenth of 100), one GPU"
    return (
        f"{head} A rough guess, easily wrong by a factor of five: {time.flop:.2g} operations a trial at an "
        f"assumed {speed} are {duration(seconds)} a trial. Start-up, the tests of the winners and what "
        "pruning saves are not counted. Once trials have run, the estimate rests on them."
    )


def reach_text(reach: Reach) -> str:
    """What so many seeds can and cannot show, in plain sentences."""
    if reach.comparisons == 0:
        return "Nothing is compared: the study has one arm."
    if reach.effect is None or reach.effect_holm is None:
        return "One confirm seed gives no spread, so no difference can be told from chance."
    never = "" if reach.smallest_p < 0.05 else ", so such a test can never fall below 0.05"
    sentences = [
        f"With {reach.seeds} confirm seeds, the smallest two-sided p of an exact test (sign-flip or "
        f"Wilcoxon) is {reach.smallest_p:.3g}{never}.",
        f"A paired t test at 0.05 finds, in 8 studies of 10, a true difference of {reach.effect:.2f} "
        f"standard deviations of the paired differences (Cohen's dz)",
    ]
    if reach.comparisons > 1:
        sentences[-1] += (
            f"; at the first step of Holm's correction over {reach.comparisons} comparisons it takes "
            f"{reach.effect_holm:.2f}"
        )
    sentences[-1] += "."
    if reach.effect_holm > 1:
        sentences.append(f"To find a difference of one such standard deviation, {reach.seeds_for_one} seeds")
        sentences[-1] += " are needed."
    return " ".join(sentences)


def duration(seconds: float) -> str:
    """A time as one reads it: ``4.2 s``, ``3 min 20 s``, ``2 h 5 min``, ``3 days 4 h``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} day{'s' if hours >= 48 else ''} {hours % 24} h"
