"""Reading ``protocols``: what may be left out, what stands over what, and that a study comes back whole."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import yaml

from orchestrator.study.changes import changes
from orchestrator.study.dump import to_yaml
from orchestrator.study.loader import parse_study
from orchestrator.study.regimes import regimes
from orchestrator.study.spec import ProtocolSpec, StudySpec
from workloads.contract import TrainingConfig
from workloads.protocol_config import ContinualConfig, LongTailedConfig
from workloads.recipes import RECIPES

HEAD = """\
study: small
data: {source: cifar10, near_ood: [cifar100], far_ood: [uniform]}
model: resnet32
arms: {cross_entropy: {lr: 0.1}}
"""
STANDARD = ProtocolSpec("standard")


def parsed(rest: str) -> StudySpec:
    return parse_study(HEAD + rest, "small.yaml")


def read(protocols: str, rest: str = "") -> dict[str, ProtocolSpec]:
    return dict(parsed(f"protocols: {protocols}\n{rest}").protocols)


def test_a_study_that_says_nothing_has_the_standard_protocol_alone() -> None:
    assert parsed("").protocols == {"standard": STANDARD}
    assert list(regimes(parsed(""))) == ["standard"]


def test_a_list_gives_each_protocol_its_plain_variant_and_its_defaults() -> None:
    assert read("[standard, long_tailed, continual]") == {
        "standard": STANDARD,
        "long_tailed": ProtocolSpec("long_tailed", ("plain",), LongTailedConfig()),
        "continual": ProtocolSpec("continual", ("naive",), ContinualConfig()),
    }
    assert list(read("[continual, standard]")) == ["continual", "standard"]


@pytest.mark.parametrize("nothing", ["", "null", "{}"])
def test_a_mapping_may_say_nothing_of_a_protocol(nothing: str) -> None:
    text = f"{{standard: {nothing}, continual: {nothing}, long_tailed: {nothing}}}"
    assert read(text) == read("[standard, continual, long_tailed]")
    assert list(read(text)) == ["standard", "continual", "long_tailed"]


def test_settings_methods_and_parameters_are_read_and_the_rest_stays() -> None:
    text = (
        "{long_tailed: {methods: [drw, crt], profile: step, factor: 10, subset_seed: 3, beta: 0.99, "
        "drw_from: 0.5, tau: 2, crt_epochs: 4, parameters: defaults}, "
        "continual: {strategies: [ewc, joint], tasks: 2, replay_batch: 7, fisher: expected, order: natural}}"
    )
    assert read(text) == {
        "long_tailed": ProtocolSpec(
            "long_tailed",
            ("drw", "crt"),
            LongTailedConfig("plain", "step", 10.0, 3, 0.99, 0.5, 2.0, 4),
            "defaults",
        ),
        "continual": ProtocolSpec(
            "continual",
            ("ewc", "joint"),
            ContinualConfig(tasks=2, replay_batch=7, fisher="expected", order="natural"),
        ),
    }


def test_a_protocol_may_stand_more_than_once_under_names_of_its_own() -> None:
    text = (
        "{continual: {tasks: 2}, turned: {protocol: continual, stream: rotated, scenario: domain_il, "
        "tasks: 3}, tail_10: {protocol: long_tailed, methods: [plain, drw], factor: 10}, "
        "2nd: {protocol: long_tailed}}"
    )
    found = read(text)
    assert [(name, each.protocol) for name, each in found.items()] == [
        *(("continual", "continual"), ("turned", "continual")),
        *(("tail_10", "long_tailed"), ("2nd", "long_tailed")),
    ]
    assert found["turned"].settings == ContinualConfig(stream="rotated", scenario="domain_il", tasks=3)
    names = list(regimes(parsed(f"protocols: {text}")))
    assert names == ["continual/naive", "turned/naive", "tail_10/plain", "tail_10/drw", "2nd/plain"]


def test_an_own_training_stands_over_the_studys_and_that_over_its_recipe() -> None:
    recipe = dict(RECIPES["openood"].training)
    spec = parsed(
        # Written before the training that it stands over: the order of the keys is nothing.
        "protocols: {standard: , long_tailed: {training: {epochs: 7, augmentation: {erasing: 0.5}}}, "
        "continual: {tasks: 2}}\n"
        "recipe: openood\ntraining: {batch_size: 99, skip: {rule: zero_loss}}\n"
    )
    own = spec.protocols["long_tailed"].training
    assert own is not None
    assert recipe["epochs"] != 7
    whole = dataclasses.replace(spec.training.augmentation, erasing=0.5)
    assert own == dataclasses.replace(spec.training, epochs=7, augmentation=whole)
    assert (own.batch_size, own.skip.rule) == (99, "zero_loss")
    assert own.weight_decay == recipe["weight_decay"]
    assert spec.protocols["continual"].training is None
    each = {name: regime.training(spec) for name, regime in regimes(spec).items()}
    assert each == {"standard": spec.training, "long_tailed/plain": own, "continual/naive": spec.training}


def test_an_own_training_may_be_over_a_recipe_that_the_study_leaves_as_it_is() -> None:
    spec = parsed("recipe: openood\nprotocols: {long_tailed: {training: {epochs: 7}}}\n")
    assert spec.protocols["long_tailed"].training == dataclasses.replace(spec.training, epochs=7)
    assert spec.training != TrainingConfig()


def test_a_regime_has_the_settings_of_its_entry_and_one_variant() -> None:
    text = (
        "{long_tailed: {methods: [plain, drw], factor: 10}, mine: {protocol: continual, strategies: [lwf]}}"
    )
    found = regimes(parsed(f"protocols: {text}"))
    assert found["long_tailed/drw"].long_tailed == LongTailedConfig("drw", factor=10.0)
    assert found["long_tailed/plain"].long_tailed == LongTailedConfig("plain", factor=10.0)
    assert found["long_tailed/drw"].continual is None
    mine = found["mine/lwf"]
    assert (mine.entry, mine.protocol, mine.variant) == ("mine", "continual", "lwf")
    assert (mine.continual, mine.long_tailed) == (ContinualConfig("lwf"), None)


EVERYTHING = (
    "{standard: , long_tailed: {methods: [plain, drw], parameters: defaults, training: {epochs: 3, lr: 0.2}},"
    " turned: {protocol: continual, stream: rotated, scenario: domain_il, tasks: 3, replay_batch: 4}, "
    "continual: {strategies: [replay, joint], training: {skip: {rule: zero_loss}, augmentation: crop_flip}}}"
)


@pytest.mark.parametrize("text", ["[standard]", "[continual, long_tailed]", EVERYTHING])
def test_a_study_of_regimes_survives_the_round_trip(text: str) -> None:
    spec = parsed(f"recipe: openood\nprotocols: {text}")
    again = parse_study(to_yaml(spec), "dumped.yaml")
    assert again == spec
    assert list(again.protocols) == list(spec.protocols)
    assert changes(spec, again) == []


def test_every_setting_of_a_protocol_is_written_out() -> None:
    document = yaml.safe_load(to_yaml(parsed(f"protocols: {EVERYTHING}")))["protocols"]

    def fields(cls: type) -> set[str]:
        return {f.name for f in dataclasses.fields(cls)}

    assert list(document) == ["standard", "long_tailed", "turned", "continual"]
    assert document["standard"] == {}
    tail = {"methods", "parameters", *fields(LongTailedConfig)} - {"method"}
    stream = {"strategies", "parameters", *fields(ContinualConfig)} - {"strategy"}
    assert set(document["long_tailed"]) == tail | {"training"}
    assert set(document["long_tailed"]["training"]) == fields(TrainingConfig)
    assert set(document["turned"]) == stream | {"protocol"}
    assert set(document["continual"]) == stream | {"training"}


def test_random_settings_survive_the_round_trip() -> None:
    tails = itertools.product(
        ("plain", "crt"), ("exp", "step"), (1.0, 12.5), (0.0, 1.0), ("winner", "defaults")
    )
    for method, profile, factor, share, parameters in tails:
        settings = LongTailedConfig(profile=profile, factor=factor, drw_from=share)  # type: ignore[arg-type]
        settings = dataclasses.replace(settings, method=method)  # type: ignore[arg-type]
        each = ProtocolSpec("long_tailed", (method,), settings, parameters)  # type: ignore[arg-type]
        spec = dataclasses.replace(parsed(""), protocols={"mine": each})
        again = parse_study(to_yaml(spec), "dumped.yaml").protocols["mine"]
        # Which one variant the settings hold is nothing: each regime sets its own.
        assert dataclasses.replace(again, settings=settings) == each
        assert again.settings == dataclasses.replace(settings, method="plain")


def test_what_changed_in_a_protocol_is_named_by_its_key() -> None:
    old = parsed("protocols: {standard: , long_tailed: {factor: 10, training: {epochs: 3}}}")
    new = parsed("protocols: {standard: , long_tailed: {factor: 20, training: {epochs: 4}}, continual: }")
    lines = changes(old, new)
    assert lines[:2] == [
        "protocols.long_tailed.training.epochs: 3 -> 4",
        "protocols.long_tailed.factor: 10.0 -> 20.0",
    ]
    assert "protocols.continual.strategies: not set -> ['naive']" in lines


def test_regimes_may_be_of_data_whose_sizes_nobody_knows_yet() -> None:
    text = (
        HEAD.replace("cifar10", "./nowhere")
        + "protocols: {long_tailed: {factor: 1000000}, continual: {tasks: 999}}"
    )
    assert set(parse_study(text, "small.yaml").protocols) == {"long_tailed", "continual"}
