"""Recipes and augmentation in a study file: one word, and what is said over it."""

from __future__ import annotations

import dataclasses

import pytest

from orchestrator.errors import StudyInvalid
from orchestrator.study.dump import to_yaml
from orchestrator.study.loader import parse_study
from orchestrator.study.spec import StudySpec
from orchestrator.study.training import recipe_training
from workloads.contract import AugmentationConfig, SaturatedConfig, SkipConfig, TrainingConfig
from workloads.recipes import RECIPES, Recipe


def parsed(rest: str, arms: str = "cross_entropy: {lr: 0.1}") -> StudySpec:
    text = f"study: small\ndata: {{source: digits}}\nmodel: small_cnn_8x8\narms:\n  {arms}\n"
    return parse_study(f"{text}report: {{primary: [test/accuracy]}}\n{rest}", "small.yaml")


def problems(rest: str, arms: str = "cross_entropy: {lr: 0.1}") -> list[str]:
    with pytest.raises(StudyInvalid) as found:
        parsed(rest, arms)
    return [str(problem) for problem in found.value.problems]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_sets_the_training_with_one_word(name: str) -> None:
    spec = parsed(f"recipe: {name}")
    assert spec.recipe == name
    assert spec.training == recipe_training(RECIPES[name])
    for key, value in RECIPES[name].training.items():
        if key != "augmentation":
            assert getattr(spec.training, key) == value


def test_what_a_study_says_stands_over_its_recipe() -> None:
    spec = parsed("recipe: logitnorm_paper\ntraining: {epochs: 20, augmentation: {crop: 2}}")
    paper = recipe_training(RECIPES["logitnorm_paper"])
    expected = dataclasses.replace(paper, epochs=20, augmentation=AugmentationConfig(flip=True, crop=2))
    assert spec.training == expected


def test_a_choice_of_images_that_a_recipe_makes_may_be_changed_in_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = {"skip": {"rule": "zero_loss", "epochs": 4}, "saturated": {"rule": "random", "magnitude": 3}}
    monkeypatch.setitem(RECIPES, "choosy", Recipe("choosy", "", "", settings))
    spec = parsed("recipe: choosy\ntraining: {skip: {recheck: 0.5}, saturated: {share: 0.1}}")
    assert spec.training.skip == SkipConfig("zero_loss", 4, recheck=0.5)
    assert spec.training.saturated == SaturatedConfig("random", 0.1, magnitude=3)
    assert parse_study(to_yaml(spec), "dumped.yaml") == spec


def test_a_default_that_is_written_out_still_overrides_a_recipe() -> None:
    assert parsed("recipe: openood\ntraining: {nesterov: false}").training.nesterov is False


def test_without_a_recipe_the_defaults_hold() -> None:
    spec = parsed("training: {epochs: 3}")
    assert (spec.recipe, spec.training) == (None, TrainingConfig(epochs=3))


def test_a_study_with_a_recipe_survives_the_round_trip() -> None:
    spec = parsed("recipe: arcgrad_vit\ntraining: {epochs: 7, ema_decay: 0.9}")
    assert parse_study(to_yaml(spec), "dumped.yaml") == spec


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("none", AugmentationConfig()),
        ("crop_flip", AugmentationConfig(flip=True, crop=4)),
        ("{crop: 1, padding: reflect}", AugmentationConfig(crop=1, padding="reflect")),
        (
            "{randaugment: 2, erasing: 0.25, repeats: 3}",
            AugmentationConfig(randaugment=2, erasing=0.25, repeats=3),
        ),
    ],
)
def test_augmentation_is_a_word_or_its_settings(written: str, expected: AugmentationConfig) -> None:
    assert parsed(f"training: {{augmentation: {written}}}").training.augmentation == expected


def test_a_word_replaces_all_of_a_recipes_augmentation() -> None:
    spec = parsed("recipe: arcgrad_vit\ntraining: {augmentation: none}")
    assert spec.training.augmentation == AugmentationConfig()


@pytest.mark.parametrize(
    ("rest", "says"),
    [
        ("recipe: logitnorm_papr", ["recipe: unknown recipe; got 'logitnorm_papr'", "logitnorm_paper"]),
        ("training: {augmentation: cropflip}", ["training.augmentation: must be none, flip", "crop_flip"]),
        ("training: {augmentation: {flop: true}}", ["training.augmentation.flop: unknown key", "flip"]),
        ("training: {augmentation: {erasing: 1.5}}", ["training.augmentation.erasing: must be", "1.5"]),
        ("training: {augmentation: {crop: 0}}", ["training.augmentation.crop: must be at least 1"]),
        ("training: {ema_decay: 1}", ["training.ema_decay: must be above 0 and below 1"]),
        ("training: {precision: fp16}", ["training.precision: must be one of float32, tf32, bf16"]),
        ("training: {optimizer: mion}", ["training.optimizer", "muon"]),
        ("training: {schedule: one_cycle, warmup_epochs: 1}", ["warmup_epochs: must be 0 with schedule one"]),
        ("training: {lr: 0.1, min_lr: 0.2}", ["training.min_lr: must be at most training.lr (0.1); got 0.2"]),
    ],
)
def test_what_is_wrong_is_named_with_its_rule(rest: str, says: list[str]) -> None:
    (problem,) = problems(rest)
    assert all(part in problem for part in says), problem


def test_mixing_labels_is_refused_where_an_arm_takes_hard_ones() -> None:
    arms = "cross_entropy: {lr: 0.1}\n  hem: {lr: 0.1}"
    (problem,) = problems("training: {augmentation: {mixup: 0.2}}", arms)
    assert "arms.hem: hem takes hard labels only, and training.augmentation.mixup mixes labels" in problem
