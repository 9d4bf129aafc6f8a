"""Reading a study: what the file says, what it leaves out, and the ways to write the same thing."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import StudyInvalid
from orchestrator.study.loader import load_study, parse_study
from orchestrator.study.spec import ArmSpec, PrunerSpec, StudySpec
from orchestrator.study.warnings import warnings
from workloads.catalogue import Term
from workloads.contract import AugmentationConfig, ModelConfig, SaturatedConfig, SkipConfig
from workloads.losses.catalogue import LOSSES

STUDIES = Path(__file__).resolve().parents[2] / "studies"
HEAD = """\
study: small
data: {source: digits, id_classes: [0, 1, 2, 3], near_ood: [held_out], far_ood: [blobs]}
"""


def parsed(arms: str, rest: str = "", model: str = "small_cnn_8x8") -> StudySpec:
    return parse_study(f"{HEAD}model: {model}\narms:\n{arms}\n{rest}", "small.yaml")


def space(arm: str) -> dict[str, Term]:
    return dict(parsed(f"  one: {arm}").arms["one"].space)


def test_every_term_is_read_with_its_kind_and_its_values_in_order() -> None:
    read = space(
        "{loss: hem, mu: {scale: {log_uniform: [200, 20000]}}, threshold: {choice: [batch, sample]}, "
        "lr: {uniform: [0.1, 1]}, batch_size: {int_uniform: [8, 64]}, weight_decay: {grid: [0, 0.1]}, "
        "momentum: 0.5}"
    )
    assert read == {
        "mu.scale": Term("log_uniform", (200.0, 20000.0)),
        "threshold": Term("choice", ("batch", "sample")),
        "lr": Term("uniform", (0.1, 1.0)),
        "batch_size": Term("int_uniform", (8, 64)),
        "weight_decay": Term("grid", (0.0, 0.1)),
        "momentum": Term("fixed", (0.5,)),
    }
    assert all(type(v) is float for name in ("mu.scale", "lr", "weight_decay") for v in read[name].values)
    assert all(type(v) is int for v in read["batch_size"].values)


def test_an_expression_may_be_fixed_and_a_plain_value_may_stand_in_its_place() -> None:
    assert space("{loss: hem, mu: {scale: 300}}") == {"mu.scale": Term("fixed", (300.0,))}
    assert space("{loss: hem, mu: 0.5}") == {"mu": Term("fixed", (0.5,))}


@pytest.mark.parametrize("written", ["  logitnorm:", "  logitnorm: {}", "  one: {loss: logitnorm}"])
def test_an_arm_that_sets_nothing_searches_the_recommended_ranges(written: str) -> None:
    (arm,) = parsed(written).arms.values()
    assert arm.space == {
        "tau": Term("log_uniform", (0.005, 0.2)),
        "lr": Term("log_uniform", (0.02, 0.3)),
    }


def test_the_recommended_range_of_an_expression_is_searched_under_its_flat_name() -> None:
    read = parsed("  hem:").arms["hem"].space
    assert read["mu.scale"] == LOSSES["hem"].parameters["mu"].expressions["scale"].search
    assert set(read) == {"mu.scale", "lr"}
    assert read["lr"] == Term("choice", (0.025, 0.05, 0.1, 0.2))


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_that_sets_nothing_searches_what_its_entry_recommends(name: str) -> None:
    entry = LOSSES[name]
    expected = {}
    for parameter, what in entry.parameters.items():
        for word, expression in what.expressions.items():
            if expression.search is not None:
                expected[f"{parameter}.{word}"] = expression.search
        if what.search is not None:
            expected[parameter] = what.search
    assert entry.lr is not None
    assert parsed(f"  {name}:").arms[name].space == {**expected, "lr": entry.lr.search}


def test_a_triplet_term_may_stand_beside_the_parameters_of_any_loss() -> None:
    read = space("{loss: arcface, m: 0.3, triplet: {grid: [0.1, 1]}, triplet_mining: semi_hard}")
    assert read == {
        "m": Term("fixed", (0.3,)),
        "triplet": Term("grid", (0.1, 1.0)),
        "triplet_mining": Term("fixed", ("semi_hard",)),
    }


def test_a_loss_of_ones_own_is_named_by_import_path_and_takes_any_parameter() -> None:
    read = parsed('  mine: {loss: "my_losses.margin:Big", s: {uniform: [1, 64]}, kind: soft, m: {deg: 3}}')
    assert read.arms["mine"] == ArmSpec(
        "mine",
        "my_losses.margin:Big",
        {
            "s": Term("uniform", (1.0, 64.0)),
            "kind": Term("fixed", ("soft",)),
            "m.deg": Term("fixed", (3,)),
        },
    )


def test_folders_are_named_from_where_the_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = HEAD.replace("source: digits, id_classes: [0, 1, 2, 3]", "source: ./pets@32")
    text = (
        text.replace("[held_out]", "[../cats]") + "model: small_cnn_8x8\narms:\n  cross_entropy: {lr: 0.1}\n"
    )
    data = parse_study(text, "small.yaml").data
    assert data.source == f"{tmp_path / 'pets'}@32"
    assert data.near_ood == (str(tmp_path.parent / "cats"),)
    assert data.far_ood == ("blobs",)


def test_a_model_is_named_short_or_with_its_parameters_and_is_completed() -> None:
    default = ModelConfig("small_cnn_8x8", {"width": 16})
    assert parsed("  cross_entropy:").model == default
    assert parsed("  cross_entropy:", model="{name: small_cnn_8x8}").model == default
    projected = parsed("  cross_entropy:", model="{name: small_cnn_8x8, projector: 24}").model
    assert projected == ModelConfig("small_cnn_8x8", {"width": 16}, 24)
    wide = parsed("  cross_entropy:", model="{name: small_cnn_8x8, params: {width: 32}}").model
    assert wide == ModelConfig("small_cnn_8x8", {"width": 32})


def test_a_pruner_is_named_short_or_with_its_parameters_and_is_completed() -> None:
    short = parsed("  cross_entropy:", "search: {pruner: hyperband, parallel: 1}").search.pruner
    assert short == PrunerSpec("hyperband", 0, {"min_resource": 1, "reduction_factor": 3})
    long = "search: {pruner: {name: wilcoxon, warmup_epochs: 3, p_threshold: 0.2}}"
    assert parsed("  cross_entropy:", long).search.pruner == PrunerSpec(
        "wilcoxon", 3, {"p_threshold": 0.2, "n_startup_steps": 2}
    )


def test_images_may_be_chosen_by_their_losses() -> None:
    said = "training: {skip: {rule: zero_loss, epochs: 2, recheck: 0.1}, saturated: {rule: random}}"
    training = parsed("  hem:", said).training
    assert training.skip == SkipConfig("zero_loss", 2, recheck=0.1)
    # As many as had no loss: a share is not asked for.
    assert training.saturated == SaturatedConfig("random", 0.0, 2, 9)
    assert parsed("  hem:").training.skip == SkipConfig("none")
    off = "training: {skip: {rule: none}, augmentation: {mixup: 0.5}}"
    assert parsed("  cross_entropy: {lr: 0.1, triplet: 0.1}", off).training.skip.rule == "none"


def test_the_first_arm_is_the_baseline_where_the_file_names_none() -> None:
    assert parsed("  hem:\n  cross_entropy:").baseline == "hem"
    assert parsed("  hem:\n  cross_entropy:", "baseline: cross_entropy").baseline == "cross_entropy"


def test_a_block_that_is_left_empty_keeps_its_defaults() -> None:
    assert parsed("  cross_entropy:", "execution:\nsearch:") == parsed("  cross_entropy:")


def test_whole_numbers_are_read_as_fractions_where_the_field_is_one() -> None:
    lr = parsed("  cross_entropy:", "training: {lr: 1}").training.lr
    assert (lr, type(lr)) == (1.0, float)


def test_yes_is_true_where_a_truth_value_is_meant_and_only_there() -> None:
    assert parsed("  cross_entropy:", "search: {deterministic: no}").search.deterministic is False
    with pytest.raises(StudyInvalid, match="which YAML reads as a truth value"):
        parsed("  cross_entropy:", "training: {schedule: on}")


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    text = f"{HEAD}model: small_cnn_8x8\narms:\n  cross_entropy:\n"
    file = tmp_path / "windows.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert load_study(file) == parse_study(text, "x")


@pytest.mark.parametrize("name", ["quickstart", "logitnorm_tau"])
def test_the_studies_of_this_repository_are_valid(name: str) -> None:
    assert load_study(STUDIES / f"{name}.yaml").name == name


def test_the_study_of_tau_has_the_papers_grid_and_recipe() -> None:
    spec = load_study(STUDIES / "logitnorm_tau.yaml")
    paper = (0.001, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.045, 0.05)
    assert spec.arms["logitnorm"].space == {"tau": Term("grid", paper)}
    assert spec.arms["cross_entropy"].space == {"lr": Term("fixed", (0.1,))}
    milestones = [m * spec.training.epochs for m in spec.training.milestones]
    assert milestones == [80, 140]
    assert spec.recipe == "logitnorm_paper"
    assert spec.training.augmentation == AugmentationConfig(flip=True, crop=4)
    assert spec.model.params == {"depth": 40, "width": 2, "dropout": 0.3}


# -- warnings -----------------------------------------------------------------------------------------------


def warned(arms: str, rest: str = "") -> str:
    return "\n".join(warnings(parsed(arms, rest)))


FAIR = "  cross_entropy:\n  logitnorm:"
SEEDS = "search: {seeds: [0, 1], trials: 9%s}"


def test_a_sound_study_gives_no_warning() -> None:
    assert warned(FAIR, SEEDS % "") == ""


def test_a_password_in_the_file_is_warned_of_without_repeating_it() -> None:
    server = f"{SEEDS % ''}\ntracking: {{uri: 'http://%s:5000'}}"
    said = warned(FAIR, server % "ann:s3cretpw@host")
    assert said.startswith("tracking.uri: holds a password")
    assert "s3cretpw" not in said
    assert warned(FAIR, server % "host") == ""


def test_few_confirm_seeds_are_warned_of_with_the_smallest_p_they_allow() -> None:
    assert "3 seeds; the smallest p that an exact test can reach is 0.25" in warned(
        FAIR, "confirm: {seeds: [7, 8, 9]}"
    )


@pytest.mark.parametrize(
    ("arms", "rest", "says"),
    [
        ("  hem:", "", "only one, so there is nothing to compare"),
        ("  cross_entropy: {lr: 0.1}\n  hem:", "", "at most: cross_entropy 1, hem 20"),
        (FAIR, "", "one seed a configuration"),
        (FAIR, SEEDS % ", pruner: wilcoxon", "smallest one-sided p is 0.25, p_threshold 0.1"),
        (FAIR, SEEDS % ", pruner: {name: median, n_startup_trials: 18}", "nothing will be stopped"),
        (
            "  cross_entropy: {lr: {grid: [0.1, 0.2, 0.3]}}",
            "search: {sampler: grid, trials: 2}",
            "the grid has 3 points, search.trials allows 2",
        ),
    ],
)
def test_what_may_not_be_meant_is_warned_of(arms: str, rest: str, says: str) -> None:
    assert says in warned(arms, rest)


def test_a_rate_in_a_protocols_own_training_is_told_to_be_unheard() -> None:
    tail = "protocols: {standard: , long_tailed: {factor: 2, training: {lr: 0.3}}}"
    said = "protocols.long_tailed.training: lr 0.3 is not for arms that set their own: "
    assert f"{said}every arm" in warned("  cross_entropy: {lr: 0.1}", tail)
    two = "  cross_entropy: {lr: 0.1}\n  hem: {threshold: batch}"
    assert f"{said}cross_entropy" in warned(two, tail)
    assert said not in warned("  hem: {threshold: batch}", tail)
    assert "set their own" not in warned(
        "  cross_entropy: {lr: 0.1}", tail.replace("lr: 0.3", "evaluate_every: 1")
    )
