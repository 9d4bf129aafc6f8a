"""The benchmark's peers do the same work as this tool, and its figures are computed as they say."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from benchmarks import figures, gpu, material, parity, peak, rounds, study, throughput
from benchmarks.memory import Watch
from benchmarks.peers import images as peer_images
from benchmarks.peers import launch, training
from benchmarks.peers.job import Job, Recipe, Setting, read_results, write_result
from benchmarks.study import Order, Run
from orchestrator.campaign.record import StudyRecord, TrialRecord
from orchestrator.study.loader import parse_study
from workloads.contract import (
    AugmentationConfig,
    DataConfig,
    DataFacts,
    ModelConfig,
    NoiseConfig,
    TrainingConfig,
)
from workloads.data.prepared import PreparedData
from workloads.evaluation.ood import rejection_metrics
from workloads.losses.logitnorm import LogitNorm
from workloads.models.build import build_model
from workloads.models.catalogue import MODELS
from workloads.training.augmentation import Draws, augment
from workloads.training.batches import Batches, Normaliser
from workloads.training.engine import Engine
from workloads.training.schedule import learning_rate
from workloads.training.seeds import derive_seed

MEAN, STD = (0.49, 0.48, 0.44), (0.25, 0.24, 0.26)
RECIPE = Recipe("", "small_cnn_8x8", 4, 16, 0.9, 5e-4, (2,), 0.1)
SMALL = material.Sizes(train=64, validation=20, test=20, far=20, noise=10)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> material.Material:
    return material.make(tmp_path_factory.mktemp("material"), SMALL, None)


def pixels(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(3).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("top", "left", "flipped"), [(0, 0, False), (8, 3, True), (4, 4, True), (2, 7, False)]
)
def test_a_peers_crop_flip_and_normalisation_are_ours_for_the_same_draws(
    top: int, left: int, flipped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    crop = torchvision.transforms.RandomCrop
    monkeypatch.setattr(crop, "get_params", staticmethod(lambda *_: (top, left, 32, 32)))
    monkeypatch.setattr(torch, "rand", lambda *_: torch.tensor([0.0 if flipped else 0.9]))
    image = pixels(1)[0]
    theirs = peer_images.train_transform(MEAN, STD)(Image.fromarray(image))
    draws = Draws(shifts=torch.tensor([[top, left]]), flips=torch.tensor([flipped]))
    ours = augment(torch.from_numpy(image).permute(2, 0, 1)[None], draws, AugmentationConfig(True, 4))
    normalised = Normaliser(MEAN, STD, torch.device("cpu"))(ours)
    # One divides by 255 first, the other multiplies the mean: a few roundings of numbers up to 3.
    torch.testing.assert_close(theirs[None], normalised, atol=2e-6, rtol=0)


def test_a_peers_test_images_are_normalised_as_ours() -> None:
    image = pixels(1)[0]
    theirs = peer_images.test_transform(MEAN, STD)(Image.fromarray(image))
    ours = Normaliser(MEAN, STD, torch.device("cpu"))(torch.from_numpy(image).permute(2, 0, 1)[None])
    torch.testing.assert_close(theirs[None], ours, atol=2e-6, rtol=0)  # as above


def test_a_peers_loss_and_its_gradient_are_those_of_our_logitnorm() -> None:
    torch.manual_seed(0)
    logits = torch.randn(32, 10).requires_grad_()
    labels = torch.randint(10, (32,))
    theirs = training.LogitNormLoss(0.07)(logits, labels)
    (gradient,) = torch.autograd.grad(theirs, logits)
    ours = LogitNorm(0.07)(logits, labels)
    (own,) = torch.autograd.grad(ours, logits)
    # float32; the scaled logits are up to 14, so a rounding of them is 1e-6.
    torch.testing.assert_close(theirs, ours, atol=5e-6, rtol=0)
    torch.testing.assert_close(gradient, own, atol=5e-6, rtol=1e-5)


def test_a_peers_auroc_and_fpr95_are_ours_also_with_ties() -> None:
    draws = np.random.default_rng(0)
    inside = draws.normal(1, 1, 300).round(1).astype(np.float32)
    outside = draws.normal(0, 1, 200).round(1).astype(np.float32)
    auroc, fpr95 = training.rejection(inside, outside)
    ours = rejection_metrics(inside, outside)
    # Counts over counts.
    assert (auroc, fpr95) == pytest.approx((ours["auroc"], ours["fpr95_id_positive"]), abs=1e-12)


def test_a_peer_and_our_engine_reach_the_same_weights_from_the_same_batches() -> None:
    """Four epochs of one batch: weights, momentum, decay, schedule and loss are then all the same."""
    job = Job(RECIPE, ((0.5, 0.1),), (7,), Setting(), "")
    model = training.fresh_model(job, 10)
    torch.manual_seed(derive_seed(7, "model"))
    own = build_model(ModelConfig("small_cnn_8x8"), (3, 32, 32), 10)
    images = torch.from_numpy(pixels(16)).permute(0, 3, 1, 2).contiguous()
    labels = torch.arange(16) % 10
    spec = order_spec(Order(RECIPE, 1))
    config = dataclasses.replace(spec, augmentation=AugmentationConfig(), lr=0.1)
    normalise = Normaliser(MEAN, STD, torch.device("cpu"))
    engine = Engine(own, LogitNorm(0.5), Batches(images, labels, 10, config, 0), normalise, config, 0)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2], RECIPE.gamma)
    criterion, batch = training.LogitNormLoss(0.5), normalise(images)
    for _ in range(RECIPE.epochs):
        engine.train_epoch()
        training.train_epoch(model, criterion, optimizer, [(batch, labels)], torch.device("cpu"))
        schedule.step()
    # float32 sums in another order (ours shuffles), four steps; a wrong decay or rate changes 1e-3.
    for theirs, ours in zip(model.parameters(), own.parameters(), strict=True):
        torch.testing.assert_close(theirs, ours, atol=2e-5, rtol=1e-4)


def test_the_rates_of_a_peers_epochs_are_those_of_our_steps() -> None:
    config = dataclasses.replace(order_spec(Order(RECIPE, 1)), lr=0.1)
    ours = [[learning_rate(config, 5 * epoch + step, 5) for step in range(5)] for epoch in range(4)]
    assert np.array(ours) == pytest.approx(np.repeat([[0.1], [0.1], [0.01], [0.01]], 5, axis=1))


def order_spec(order: Order) -> TrainingConfig:
    data = DataConfig("cifar10", validation_fraction=0.2, far_ood=("svhn",))
    noise = NoiseConfig(size=10)
    facts = DataFacts("", 1, 1, 1, 10, (3, 32, 32), {})
    document = order.document("benchmark", material.Material(Path(), data, noise, facts))
    return parse_study(json.dumps(document), "study.yaml").training


@pytest.mark.parametrize("trials", [1, 3, 4, 8, 24, 48])
def test_a_study_searches_the_points_that_its_peers_get(trials: int) -> None:
    taus, rates = study.axes(trials)
    assert len(taus) * len(rates) == trials == len(set(study.points(trials)))
    assert study.points(trials)[0] == figures.PARITY_POINT


def test_peers_get_the_images_labels_and_statistics_that_a_study_prepares(made: material.Material) -> None:
    data = PreparedData.open(made.data, made.noise, made.prepared, stage="confirm")
    peers = peer_images.Material(made.arrays, 0, 16, "cpu")
    assert (peers.mean, peers.std) == (data.mean, data.std)
    wanted = {"validation": data.validation().images, "test": data.test().images, "far": data.ood()["svhn"]}
    normalise = Normaliser(data.mean, data.std, torch.device("cpu"))
    for name, ours in wanted.items():
        theirs = torch.cat([batch for batch, _ in peers.test(name)])
        torch.testing.assert_close(theirs, normalise(torch.from_numpy(ours.copy())), atol=2e-6, rtol=0)
    labels = torch.cat([labels for _, labels in peers.train()])
    assert sorted(labels.tolist()) == sorted(data.train().labels.tolist())


def test_a_job_travels_through_its_text_and_its_results_come_back(tmp_path: Path) -> None:
    job = Job(RECIPE, ((0.1, 0.05), (0.2, 0.05)), (0, 1), Setting(2, 1, 3), str(tmp_path), confirm=True)
    assert Job.loads(job.dumps()) == job
    assert job.only(1).points == ((0.2, 0.05),)
    write_result(job.only(1), {"fpr95": 0.5})
    assert read_results(tmp_path) == [{"tau": 0.2, "lr": 0.05, "seed": 1, "fpr95": 0.5}]


def test_a_peer_keeps_the_fastest_of_the_settings_that_were_tried() -> None:
    job = Job(RECIPE, ((0.1, 0.05),) * 4, (0,) * 4, Setting(), "")

    def measured(_: str, job: Job) -> launch.PeerRun:
        return launch.PeerRun(40.0 if job.setting.workers else 20.0 / job.setting.concurrent, [])

    chosen, tried = launch.best("script", job, launch.candidates(2), measured)
    assert chosen == Setting(2, 1, 0)
    assert tried[str(Setting(1, 2, 0))] == 5.0
    assert len(tried) == len(launch.candidates(2)) >= 4


def test_rounds_run_their_sides_in_turn_forwards_and_backwards() -> None:
    ran: list[str] = []
    found = rounds.interleave({name: lambda name=name: ran.append(name) for name in "abc"}, 3)  # type: ignore[misc]
    assert "".join(ran) == "abccbaabc"
    assert all(each["load"] >= 0 for each in found)


@pytest.mark.parametrize(
    ("shift", "spread", "verdict"),
    [(0.03, 0.001, "DIFFERS"), (0.008, 0.001, "agrees"), (0.03, 0.04, "agrees"), (0.03, 0.06, "UNDECIDED")],
)
def test_parity_needs_an_interval_that_holds_zero_and_decides(
    shift: float, spread: float, verdict: str
) -> None:
    steps = (-1.0, -0.5, 0.0, 0.5, 1.0)
    peer = [dict.fromkeys(parity.BOUNDS, 0.5) for _ in steps]
    ours = [dict.fromkeys(parity.BOUNDS, 0.5 + shift + spread * step) for step in steps]
    accuracy = parity.compare(ours, peer)[0]
    # t(0.975, 4) = 2.776; the steps' standard deviation is sqrt(2.5 / 4).
    assert accuracy.half_width == pytest.approx(2.776445 * spread * (2.5 / 4) ** 0.5 / 5**0.5, rel=1e-6)
    assert parity.line(accuracy, "").endswith(verdict)
    assert accuracy.agrees is (verdict == "agrees")


@pytest.mark.parametrize("name", ["wrn_40_2", "resnet18", "small_cnn_32x32"])
def test_the_peak_counts_every_multiplication_of_a_networks_convolutions(name: str) -> None:
    model = build_model(ModelConfig(name), (3, 32, 32), 10)
    shapes = peak.convolutions(model, 2, torch.device("cpu"))
    counted = sum(n * s.operations // (2 * 2 * (2 if s.first else 3)) for s, n in shapes.items())
    linear = 10 * model.head.weight.shape[1]
    assert counted + linear == MODELS[name].facts["macs"]
    assert sum(n for s, n in shapes.items() if s.first) == 1


def test_the_peak_of_a_step_is_measured_with_its_convolutions() -> None:
    (found,) = peak.measure(ModelConfig("small_cnn_32x32"), "bf16", 4, 1, 1, torch.device("cpu"))
    assert found.convolutions > 0
    assert found.share == found.convolutions / found.step
    assert found.step_rate < found.best_rate * 10


def trial(number: int, stage: str, ended: float, seconds: float, **fields: object) -> TrialRecord:
    record = TrialRecord(f"{stage}{number}", "logitnorm", stage, "standard", number, 0, {}, "complete")
    return dataclasses.replace(record, ended=ended, seconds=seconds, **fields)  # type: ignore[arg-type]


def finished(ends: list[float], seconds: float, wall: float) -> Run:
    trials = [trial(k, "search", end, seconds) for k, end in enumerate(ends)]
    trials.append(trial(0, "confirm", ends[-1] + 3, 3.0))
    return Run(wall, StudyRecord(trials={t.key: t for t in trials}))


def test_idle_time_is_what_neither_the_spread_search_nor_the_confirm_trial_explains() -> None:
    run = finished([12.0, 12.0, 14.0, 14.0], 2.0, 20.0)
    assert run.idle(2) == 20.0 - 4 * 2.0 / 2 - 3.0
    assert run.trials == 5


def test_the_steady_rate_leaves_out_the_first_trial_of_every_worker() -> None:
    run = finished([30.0, 31.0, 33.0, 33.0, 35.0, 35.0], 2.0, 40.0)
    assert figures.steady_rate(run, 2) == 4 / 4.0
    assert figures.steady_rate(run, 1) == 5 / 5.0
    assert figures._halves(run, 3, 1) == pytest.approx((2.0 / 3) / (3.0 / 2))


def test_the_rate_on_a_gpu_is_taken_while_all_trials_train() -> None:
    slow = trial(0, "search", 0, 0, report_times={1: 20.0, 2: 40.0, 3: 60.0})
    fast = trial(1, "search", 0, 0, report_times={1: 10.0, 2: 20.0, 3: 30.0, 4: 40.0})
    run = Run(0, StudyRecord(trials={t.key: t for t in (slow, fast)}))
    # From 20 to 40 s: one epoch of the slow trial and two of the fast one.
    assert gpu.window_rate(run, 1000) == pytest.approx(3 * 1000 / 20)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_gpu_benchmark_says_so_where_there_is_no_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--data", "nowhere"]) == 2
    assert "needs a CUDA device" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--drawn", "--epochs", "3"], "--epochs must be even"),
        (["--drawn", "--few", "24"], "--trials must exceed --few"),
        (["--drawn", "--seeds", "1"], "--seeds must be at least 2"),
        ([], "one of the arguments --data --drawn is required"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        throughput.parse(words)
    assert message in capsys.readouterr().err


def test_missing_data_sets_end_the_benchmark_with_a_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert throughput.main(["--data", str(tmp_path), "--only", "help"]) == 2
    assert "cifar10" in capsys.readouterr().err


def test_figures_are_printed_and_written_with_every_round(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "figures.json"
    assert throughput.main(["--drawn", "--images", "64", "--only", "help", "--json", str(file)]) == 0
    (figure,) = json.loads(file.read_text())["figures"]
    assert (figure["goal"], len(figure["rounds"])) == ("M12", 5)
    assert figure["min"] <= figure["median"] <= figure["max"]
    assert "M12    orchestrate --help" in capsys.readouterr().out


def test_memory_is_that_of_ray_workers_below_this_process() -> None:
    code = "import time; held = bytearray(b'x') * 2**26; time.sleep(60)"
    words = ["ray::trial", "-c", code]
    with Watch(1) as watch, subprocess.Popen(words, executable=sys.executable) as worker:
        deadline = time.monotonic() + 20
        while not watch._together and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(2)
        worker.kill()
    found = watch.peak()
    assert found.workers == 1
    # 64 MiB and a bare interpreter, which has less than 64.
    assert 2**26 < found.resident < 2**27
    assert 2**26 < found.proportional <= found.resident
    assert found.beyond == found.resident - found.idle_resident
    # Python with torch: hundreds of MiB, of which a good part is files.
    assert 2**27 < found.idle_proportional <= found.idle_resident


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.parametrize("peer", ["script", "optuna", "tune"])
def test_every_peer_trains_all_its_trials_and_says_what_came_of_them(
    peer: str, made: material.Material
) -> None:
    recipe = dataclasses.replace(RECIPE, data=str(made.arrays), epochs=2, milestones=(1,))
    job = Job(recipe, study.points(2), (0, 1), Setting(2, 1, 0), "")
    run = launch.run(peer, job)
    assert [(r["tau"], r["lr"]) for r in run.results] == list(study.points(2))
    assert all(0 <= r["fpr95"] <= 1 and 0 < r["seconds"] < run.wall for r in run.results)


@pytest.mark.faults
@pytest.mark.slow
def test_the_share_of_the_records_is_measured_in_a_study(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    size = ("--images", "64", "--trials", "2", "--rounds", "1")
    assert throughput.main(["--drawn", *size, "--only", "logging", "--json", str(file)]) == 0
    share, opening = json.loads(file.read_text())["figures"]
    assert share["goal"] == "M10"
    assert 0 < share["median"] < 100
    assert opening["median"] > 0
