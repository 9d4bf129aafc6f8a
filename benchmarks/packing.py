"""Does it pay to train K trials as one model? Whole trials of this tool against K of them fused on the CPU.

    python -m benchmarks.packing [--data DIR] [--only digits ...] [--rounds 3]

Workloads: the digits with the recipe of studies/quickstart.yaml; with ``--data``, 28x28 and 32x32 images of
Fashion-MNIST and CIFAR-10, for 2 epochs of few images. All with LogitNorm, each trial with a learning rate, a
tau and a seed of its own, its gradient clipped by its own norm, and reports on validation and noise images
every 2 epochs. Ways, each in two processes of one thread side by side, or ("2 threads") in one of two:

* alone: ``workloads.run.run``, one trial after the other, which is what the tool does;
* fused K: grouped convolutions with channels last in memory, one batch norm over K times the channels, one
  batched product for the heads; its own batches for each trial, side by side as channels. The validation
  images, and with "one seed" the batches too, are the same for all K and enter as one;
* vmap K: the same by ``torch.func.vmap`` over the unchanged model.

A rate is trained images a second and core, of whole trials: opening the data, building, training, reports. A
gain is the rate over that of "alone" in the same round, first by the clock, then by the processor time of the
processes, which is the steadier one on a machine with other work (but says little of 2 threads). A fused
trial writes no checkpoint and no result, and none leaves early, which flatters it.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.pool import Pool
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.rounds import interleave
from orchestrator.execution.provenance import hardware
from orchestrator.study.loader import load_study
from workloads.contract import DataConfig, ModelConfig, NoiseConfig, TrainingConfig, TrialConfig
from workloads.data.prepared import PreparedData
from workloads.evaluation.calibration import calibration_metrics
from workloads.evaluation.ood import noise_metrics
from workloads.evaluation.scores import score
from workloads.losses.base import LossContext
from workloads.losses.build import build_loss
from workloads.losses.logitnorm import EPSILON
from workloads.models.base import Classifier
from workloads.models.build import build_model
from workloads.run import prepare, run
from workloads.training.batches import Batches, Normaliser
from workloads.training.engine import Engine
from workloads.training.inference import CPU_BATCH, as_tensor, predict
from workloads.training.numerics import autocast, reproducible
from workloads.training.schedule import learning_rate
from workloads.training.seeds import derive_seed, generator

RATES, TAUS = (0.03, 0.05, 0.1, 0.2), (0.04, 0.1, 0.2, 0.4, 1.0)
CORES = 2
CPU = torch.device("cpu")


class Fused(nn.Module):
    """K small CNNs as one: images [batch, K C, H, W], or C for all, to logits [K, batch, classes]."""

    def __init__(self, models: Sequence[Classifier]) -> None:
        super().__init__()
        self.trials = len(models)
        stacks = zip(*(m.trunk.children() for m in models), strict=True)
        self.trunk = nn.ModuleList(self._layer(stack) for stack in stacks)
        self.weight = nn.Parameter(torch.stack([m.head.weight.detach() for m in models]).mT.contiguous())
        self.bias = nn.Parameter(torch.stack([m.head.state_dict()["bias"] for m in models])[:, None])

    def _layer(self, stack: Sequence[nn.Module]) -> nn.Module:
        first = stack[0]
        if not isinstance(first, nn.Conv2d | nn.BatchNorm2d):
            return first
        fused: nn.Module
        if isinstance(first, nn.BatchNorm2d):
            fused = nn.BatchNorm2d(first.num_features * self.trials)
        else:
            inputs, outputs = first.in_channels * self.trials, first.out_channels * self.trials
            fused = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False, groups=self.trials)
        states = [layer.state_dict() for layer in stack]
        joined = {k: torch.cat([s[k] for s in states]) for k in states[0] if k != "num_batches_tracked"}
        fused.load_state_dict(joined, strict=False)
        return fused

    def forward(self, images: Tensor) -> Tensor:
        x = images
        for layer in self.trunk:
            if isinstance(layer, nn.Conv2d):
                # A grey image has no memory order to hand on, and what follows would not be channels last.
                x = x.contiguous(memory_format=torch.channels_last)
                # One image for all trials meets the same weights as one dense convolution.
                shared = x.shape[1] != layer.in_channels
                x = F.conv2d(x, layer.weight, padding=1, groups=1 if shared else self.trials)
            else:
                x = layer(x)
        features = x.float().reshape(len(x), self.trials, -1).transpose(0, 1)  # [K, batch, features]
        with torch.autocast("cpu", enabled=False):
            return torch.baddbmm(self.bias, features, self.weight)


class Mapped(nn.Module):
    """As :class:`Fused`, by vmap over the models' stacked parameters."""

    def __init__(self, models: Sequence[Classifier]) -> None:
        super().__init__()
        stacked, self.buffers_of = torch.func.stack_module_state(list(models))
        self.names, self.trials = list(stacked), len(models)
        self.stacked = nn.ParameterList([p.detach().contiguous() for p in stacked.values()])
        # In a tuple, so that its own parameters are not trained beside the stacked ones.
        self.model = (models[0],)

    def forward(self, images: Tensor) -> Tensor:
        model = self.model[0].train(self.training)

        def logits(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
            said: Tensor = torch.func.functional_call(model, (parameters, buffers), (x,)).logits
            return said

        own = images.shape[1] != next(model.parameters()).shape[1]
        x = images.reshape(len(images), self.trials, -1, *images.shape[2:]) if own else images
        mapped = torch.func.vmap(logits, in_dims=(0, 0, 1 if own else None))
        said: Tensor = mapped(dict(zip(self.names, self.stacked, strict=True)), self.buffers_of, x)
        return said


class Pack:
    """K engines trained as one, each by its own configuration; the engines only lend their beginnings."""

    def __init__(self, model: Fused | Mapped, engines: Sequence[Engine], taus: Sequence[float]) -> None:
        self.model, self.batches, self.normalise = model, engines[0].batches, engines[0].normalise
        self.configs, self.seeds = [e.config for e in engines], [e.seed for e in engines]
        self.tau = torch.tensor(taus).reshape(-1, 1, 1)
        self.blocks = [p.detach().view(len(engines), -1) for p in model.parameters()]
        self.momenta = [torch.zeros_like(block) for block in self.blocks]
        self.epoch = 0

    def train_epoch(self) -> list[float]:
        """Returns: the mean loss of each trial."""
        self.epoch += 1
        self.model.train()
        data, trials = self.batches, len(self.seeds)
        # A single row where all trials see the same batches.
        distinct = self.seeds[:1] if len(set(self.seeds)) == 1 else self.seeds
        orders = torch.stack(
            [torch.randperm(len(data.labels), generator=generator(s, "order", self.epoch)) for s in distinct]
        )
        sums, hits = torch.zeros(trials, dtype=torch.float64), torch.zeros(trials, dtype=torch.int64)
        for index, (start, end) in enumerate(itertools.pairwise((0, *data.ends))):
            chosen = orders[:, start:end]
            labels = data.labels[chosen].expand(trials, -1)  # [K, batch]
            pixels = data.images[chosen.T].flatten(0, 1).float()
            images = pixels.sub_(self.normalise.mean).div_(self.normalise.std)
            # [batch K, C, H, W] to [batch, K C, H, W]
            images = images.reshape(labels.shape[1], -1, *images.shape[2:])
            images = images.contiguous(memory_format=torch.channels_last)
            step = (self.epoch - 1) * len(data) + index
            rates = torch.tensor([learning_rate(c, step, len(data)) for c in self.configs])
            with autocast(self.configs[0].precision, CPU):
                Z = self.model(images)
            norms = torch.linalg.vector_norm(Z, dim=2, keepdim=True)
            scaled = (Z * (1 / (self.tau * (norms + EPSILON)))).flatten(0, 1)
            values = F.cross_entropy(scaled, labels.flatten(), reduction="none")
            losses = values.reshape(trials, -1).mean(dim=1)
            self.model.zero_grad(set_to_none=True)
            losses.sum().backward()  # type: ignore[no-untyped-call]
            self._update(rates)
            sums += losses.detach() * labels.shape[1]
            hits += (Z.detach().argmax(dim=2) == labels).sum(dim=1)
        return [float(value) for value in sums / len(data.labels)]

    @torch.no_grad()
    def _update(self, rates: Tensor) -> None:
        """SGD with momentum: every trial clipped by the norm of its own gradient, at its own rate."""
        config = self.configs[0]
        assert config.clip_grad_norm is not None
        gradients = [p.grad.reshape(len(rates), -1) for p in self.model.parameters() if p.grad is not None]
        norms = torch.stack([torch.linalg.vector_norm(g, dim=1) for g in gradients]).norm(dim=0)
        shrink = (config.clip_grad_norm / (norms + 1e-6)).clamp(max=1)[:, None]
        for block, gradient, momentum in zip(self.blocks, gradients, self.momenta, strict=True):
            momentum.mul_(config.momentum).add_(gradient * shrink).add_(block, alpha=config.weight_decay)
            block.addcmul_(momentum, rates[:, None], value=-1)

    @torch.no_grad()
    def logits(self, images: Tensor) -> npt.NDArray[np.float32]:
        """[K, N, classes] of images uint8 [N, C, H, W]."""
        self.model.eval()
        with autocast(self.configs[0].precision, CPU):
            parts = [self.model(self.normalise(batch)) for batch in torch.split(images, CPU_BATCH)]
        said: npt.NDArray[np.float32] = torch.cat(parts, dim=1).numpy()
        return said


@dataclass(frozen=True)
class Order:
    """What one process is to do."""

    way: str
    """``alone``, ``fused`` or ``vmap``."""
    configs: tuple[TrialConfig, ...]
    threads: int
    data_root: Path

    def carry_out(self) -> float:
        """Returns: the processor seconds of this process, all threads together."""
        began = time.process_time()
        if self.way == "alone":
            with tempfile.TemporaryDirectory() as folder:
                place, root = Path(folder), self.data_root
                for each in self.configs:
                    run(each, lambda _: None, folder=place / each.key, data_root=root, threads=self.threads)
        else:
            with reproducible(CPU, self.threads):
                train_pack(self.configs, self.way, self.data_root)
        return time.process_time() - began


def open_data(base: TrialConfig, root: Path) -> PreparedData:
    return PreparedData.open(base.data, base.noise, root, stage=base.stage)


def build_engine(config: TrialConfig, data: PreparedData) -> Engine:
    """As the standard protocol does."""
    train, classes = data.train(), data.facts.num_classes
    context = LossContext(len(train.labels), classes, tuple(np.bincount(train.labels).tolist()))
    loss = build_loss(config.loss, config.loss_params, context)
    torch.manual_seed(derive_seed(config.seed, "model"))
    model = build_model(config.model, data.facts.image_shape, classes, loss.head)
    model = model.to(memory_format=torch.channels_last)
    labels = torch.from_numpy(np.array(train.labels))
    batches = Batches(as_tensor(train.images), labels, classes, config.training, config.seed)
    return Engine(model, loss, batches, Normaliser(data.mean, data.std, CPU), config.training, config.seed)


def build_pack(configs: Sequence[TrialConfig], way: str, data: PreparedData) -> Pack:
    engines = [build_engine(config, data) for config in configs]
    make = Fused if way == "fused" else Mapped
    return Pack(
        make([e.model for e in engines]), engines, [float(str(c.loss_params["tau"])) for c in configs]
    )


def train_pack(configs: Sequence[TrialConfig], way: str, root: Path) -> None:
    """K whole trials with their reports."""
    data = open_data(configs[0], root)
    pack, training, validation = build_pack(configs, way, data), configs[0].training, data.validation()
    for epoch in range(1, training.epochs + 1):
        pack.train_epoch()
        if epoch % training.evaluate_every and epoch != training.epochs:
            continue
        known = pack.logits(as_tensor(validation.images))
        unknown = {name: pack.logits(as_tensor(images)) for name, images in data.noise().items()}
        for k in range(len(configs)):
            noise_metrics(score("msp", known[k]), {name: score("msp", Z[k]) for name, Z in unknown.items()})
            calibration_metrics(known[k], validation.labels, 1.0, 15)


def workloads(data: Path | None, folder: Path) -> dict[str, TrialConfig]:
    """A trial of each, on prepared data."""
    spec = load_study(Path("studies/quickstart.yaml"))
    small = replace(spec.training, epochs=2, batch_size=128)
    kinds: dict[str, tuple[DataConfig, ModelConfig, TrainingConfig, NoiseConfig]] = {
        "digits": (spec.data, spec.model, spec.training, spec.noise)
    }
    # Few enough that a round takes a minute; reports weigh as in a training of thousands of images.
    larger = (("28x28", "fashionmnist", 60_000, 2560), ("32x32", "cifar10", 50_000, 384))
    if data is not None:
        for name, source, total, images in larger:
            part = DataConfig(source, validation_fraction=100 / total, train_fraction=images / (total - 100))
            kinds[name] = (part, ModelConfig(f"small_cnn_{name}"), small, NoiseConfig(size=100))
    return {
        name: TrialConfig(
            *("logitnorm", "search", "standard", 0, "logitnorm", {"tau": 0.04}),
            data=part,
            data_hash=prepare(part, noise, folder, data).hash,
            model=model,
            training=training,
            noise=noise,
            evaluation=spec.evaluation,
        )
        for name, (part, model, training, noise) in kinds.items()
    }


def trials(base: TrialConfig, count: int, first: int = 0, one_seed: bool = False) -> tuple[TrialConfig, ...]:
    made = [base] * count
    for k in range(count):
        training, tau = replace(base.training, lr=RATES[k % len(RATES)]), {"tau": TAUS[k % len(TAUS)]}
        made[k] = replace(base, seed=first + (not one_seed) * k, loss_params=tau, training=training)
    return tuple(made)


def rates(pool: Pool, orders: Sequence[Order], images: int) -> tuple[float, float]:
    """Trained images, of ``images`` a trial: a second and core, and a second that a processor worked."""
    began = time.perf_counter()
    busy = pool.map(Order.carry_out, orders, chunksize=1)
    wall = time.perf_counter() - began
    trained = images * len(orders) * len(orders[0].configs)
    return trained / wall / CORES, trained / sum(busy)


WAYS = {
    "alone": ("alone", 4, 1, False),
    # One trial, because beside other work two threads wait for each other most of the time.
    "alone, 2 threads": ("alone", 1, 2, False),
    "fused 4": ("fused", 4, 1, False),
    "fused 4, one seed": ("fused", 4, 1, True),
    "fused 8": ("fused", 8, 1, False),
    "fused 16": ("fused", 16, 1, False),
    "vmap 4": ("vmap", 4, 1, False),
}
"""Name: the way, trials a process, threads, whether all trials have one seed."""


def agreement(base: TrialConfig, root: Path) -> dict[str, float]:
    """How far validation logits are from those of trials alone, over the largest: mean over four trials.
    For scale, trials alone whose weights start one rounding error away."""
    configs = trials(base, 4)
    data = open_data(configs[0], root)
    images = as_tensor(data.validation().images)
    pack, found = build_pack(configs, "fused", data), {}
    exact, nudged = ([build_engine(config, data) for config in configs] for _ in range(2))
    for p in (p for engine in nudged for p in engine.model.parameters()):
        p.data *= 1 + torch.finfo(p.dtype).eps * torch.randint(-1, 2, p.shape)
    for epoch in range(1, base.training.epochs + 1):
        pack.train_epoch()
        for engine in (*exact, *nudged):
            engine.train_epoch()
        if epoch in (1, base.training.epochs):
            wanted, others = (
                [predict(e.model, e.loss, e.normalise, images, e.config.precision).logits for e in engines]
                for engines in (exact, nudged)
            )
            for name, candidates in (("fused", pack.logits(images)), ("nudged", others)):
                gaps = [
                    float(abs(a - b).max() / abs(a).max()) for a, b in zip(wanted, candidates, strict=True)
                ]
                found[f"{name}, epoch {epoch}"] = statistics.mean(gaps)
    return found


def measure(base: TrialConfig, rounds: int, root: Path) -> None:
    epochs = base.training.epochs
    images = len(open_data(base, root).train().labels) * epochs

    def orders(name: str, length: int) -> list[Order]:
        way, count, threads, one_seed = WAYS[name]
        config = replace(base, training=replace(base.training, epochs=length))
        firsts = [100 * worker for worker in range(CORES // threads)]
        return [Order(way, trials(config, count, n, one_seed), threads, root) for n in firsts]

    with multiprocessing.get_context("spawn").Pool(CORES) as pool:
        for name in WAYS:
            rates(pool, orders(name, 1), images)
        ways = {name: partial(rates, pool, orders(name, epochs), images) for name in WAYS}
        found = interleave(ways, rounds)
    print(f"\n{'':20}{'images/s/core':>14}{'trials/h':>10}   gain (min to max)      by processor time")
    for name in WAYS:
        speed = statistics.median(each[name][0] for each in found)
        wall, busy = ([each[name][i] / each["alone"][i] for each in found] for i in (0, 1))
        hourly = CORES * 3600 * speed / images
        print(f"{name:20}{speed:14.0f}{hourly:10.0f}   {spread(wall)}     {spread(busy)}")
    print("load " + ", ".join(f"{each['load']:.1f}" for each in found), flush=True)


def spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, help="data sets, as for orchestrate study")
    parser.add_argument("--only", nargs="+", choices=("digits", "28x28", "32x32"))
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(hardware(), f"torch {torch.__version__}, {arguments.rounds} rounds")
    with tempfile.TemporaryDirectory() as folder:
        for name, base in workloads(arguments.data, Path(folder)).items():
            if arguments.only and name not in arguments.only:
                continue
            for precision in ("float32", "bf16"):
                chosen = replace(base, training=replace(base.training, precision=precision))
                print(f"\n{name}, {precision}, batch {base.training.batch_size}", end="", flush=True)
                measure(chosen, arguments.rounds, Path(folder))
                with reproducible(CPU, 1):
                    gaps = agreement(chosen, Path(folder)).items()
                print("gap to alone: " + "; ".join(f"{what}: {gap:.1e}" for what, gap in gaps), flush=True)


if __name__ == "__main__":
    main()
