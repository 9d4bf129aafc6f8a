"""The training function that all peers share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.peers.images import Material, seed_everything
from benchmarks.peers.job import Job
from workloads.contract import ModelConfig
from workloads.models.build import build_model
from workloads.training.seeds import derive_seed

Batches = Iterable[tuple[Tensor, Tensor]]


class LogitNormLoss(nn.Module):
    """Cross-entropy of the logits over tau times their norm (Wei et al. 2022, eq. 4)."""

    def __init__(self, tau: float) -> None:
        super().__init__()
        self.tau = tau

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        norms = torch.norm(logits, p=2, dim=-1, keepdim=True) + 1e-7
        return F.cross_entropy(torch.div(logits, norms) / self.tau, labels)


def run(job: Job, report: Callable[[dict[str, float]], None] = lambda _: None) -> dict[str, float]:
    """Train the job's only trial and measure it.

    Args:
        report: called after every epoch with the loss and the accuracy.
    Returns: accuracy after the last epoch, ``auroc`` and ``fpr95`` of the maximum softmax probability against
        the noise (or, confirming, the far-OOD) images, and ``seconds``, imports not counted.
    """
    began = time.perf_counter()
    recipe, (_, lr) = job.recipe, job.points[0]
    torch.set_num_threads(job.setting.threads)
    device = torch.device(recipe.device)
    material = Material(Path(recipe.data), job.setting.workers, recipe.batch_size, recipe.device)
    model = fresh_model(job, material.classes()).to(device)
    criterion = LogitNormLoss(job.points[0][0])
    optimizer = torch.optim.SGD(
        model.parameters(), lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.MultiStepLR(
        optimizer, [int(e) for e in recipe.milestones], recipe.gamma
    )
    known, unknown = ("test", "far") if job.confirm else ("validation", "noise")
    train, test = material.train(), material.test(known)
    accuracy = 0.0
    for _ in range(recipe.epochs):
        loss = train_epoch(model, criterion, optimizer, train, device)
        schedule.step()
        accuracy = test_epoch(model, test, device)
        report({"loss": loss, "accuracy": accuracy})
    inside = confidences(model, test, device)
    outside = confidences(model, material.test(unknown), device)
    auroc, fpr95 = rejection(inside, outside)
    seconds = time.perf_counter() - began
    return {"accuracy": accuracy, "auroc": auroc, "fpr95": fpr95, "seconds": seconds}


def fresh_model(job: Job, classes: int) -> nn.Module:
    """The weights that our trial of this seed starts from; then the seed of all else."""
    torch.manual_seed(derive_seed(job.seeds[0], "model"))
    model = build_model(ModelConfig(job.recipe.model), (3, 32, 32), classes)
    seed_everything(job.seeds[0])
    return model


def train_epoch(
    model: nn.Module,
    criterion: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Batches,
    device: torch.device,
) -> float:
    """Returns: the running mean of the loss."""
    model.train()
    mean = 0.0
    for images, labels in batches:
        images, labels = images.to(device), labels.to(device)
        loss = criterion(model(images).logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        mean = 0.8 * mean + 0.2 * loss.item()
    return mean


@torch.no_grad()
def test_epoch(model: nn.Module, batches: Batches, device: torch.device) -> float:
    """Returns: accuracy."""
    model.eval()
    correct = count = 0
    loss = 0.0
    for images, labels in batches:
        images, labels = images.to(device), labels.to(device)
        logits = model(images).logits
        loss += F.cross_entropy(logits, labels).item()
        correct += int((logits.argmax(dim=1) == labels).sum().item())
        count += len(labels)
    return correct / count


@torch.no_grad()
def confidences(model: nn.Module, batches: Batches, device: torch.device) -> npt.NDArray[np.float32]:
    """The maximum softmax probability of every image: a pass over the set for this score alone."""
    model.eval()
    found = []
    for images, _ in batches:
        found.append(F.softmax(model(images.to(device)).logits, dim=1).max(dim=1).values.cpu().numpy())
    return np.concatenate(found)


def rejection(inside: npt.NDArray[np.float32], outside: npt.NDArray[np.float32]) -> tuple[float, float]:
    """AUROC, and the share of OOD images accepted where 95 % of ID images are."""
    from sklearn.metrics import roc_auc_score, roc_curve

    truth = np.concatenate((np.ones(len(inside)), np.zeros(len(outside))))
    scores = np.concatenate((inside, outside))
    false, true, _ = roc_curve(truth, scores, drop_intermediate=False)
    return float(roc_auc_score(truth, scores)), float(false[np.argmax(true >= 0.95)])
