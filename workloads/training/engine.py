"""The only training loop."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from workloads.contract import TrainingConfig, TrainingDiverged
from workloads.head import HeadOutput
from workloads.losses.base import Loss
from workloads.models.base import Classifier
from workloads.training.batches import Batches, Normaliser
from workloads.training.schedule import learning_rate
from workloads.training.seeds import derive_seed


class Engine:
    """One model under training: an epoch at a time, so that the caller decides what happens between epochs.

    Its state after an epoch is a function of the configuration, the data and the seed alone, whether the
    epochs before ran here or were loaded with :meth:`load_state_dict`.
    """

    def __init__(
        self,
        model: Classifier,
        loss: Loss,
        batches: Batches,
        normalise: Normaliser,
        config: TrainingConfig,
        seed: int,
    ) -> None:
        self.model = model
        self.loss = loss
        self.batches = batches
        self.normalise = normalise
        self.config = config
        self.seed = seed
        self.epoch = 0
        """Finished epochs."""
        self.optimizer = build_optimizer(model, loss, config)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Every trainable parameter, of the model and of the loss."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def train_epoch(self) -> dict[str, float]:
        """Train one epoch.

        Returns: ``train/loss`` (mean over images), ``train/accuracy`` (while training), ``train/lr`` (of the
            last step) and the loss's own ``loss/...``.
        Raises: TrainingDiverged where the loss or a weight is no longer finite.
        """
        epoch = self.epoch + 1
        # Dropout, and whatever else draws from the global generator.
        torch.manual_seed(derive_seed(self.seed, "step", epoch))
        self.model.train()
        self.loss.train()
        device = self.batches.labels.device
        loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        correct = torch.zeros((), dtype=torch.int64, device=device)
        steps = len(self.batches)
        rate = 0.0
        for index, (images, labels) in enumerate(self.batches.epoch(epoch)):
            step = (epoch - 1) * steps + index
            self.loss.set_progress(step / (self.config.epochs * steps))
            rate = learning_rate(self.config, step, steps)
            value, hits = self._step(self.normalise(images), labels, rate)
            loss_sum += value * len(labels)
            correct += hits
        count = len(self.batches.labels)
        mean_loss = float(loss_sum) / count
        self._check_finite(epoch, mean_loss)
        self.epoch = epoch
        self.loss.set_progress(epoch / self.config.epochs)
        return {
            "train/loss": mean_loss,
            "train/accuracy": int(correct) / count,
            "train/lr": rate,
            **{f"loss/{name}": value for name, value in self.loss.stats().items()},
        }

    def _step(self, images: Tensor, labels: Tensor, rate: float) -> tuple[Tensor, Tensor]:
        """One optimiser step; the loss and the number of hits stay on the device, so nothing waits for it."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]
        output: HeadOutput = self.model(images)
        value: Tensor = self.loss(output, labels)
        self.optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        if self.config.clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.config.clip_grad_norm)
        self.optimizer.step()
        hits = (self.loss.eval_logits(output.detach()).argmax(dim=1) == labels).sum()
        return value.detach(), hits

    def _check_finite(self, epoch: int, mean_loss: float) -> None:
        if not math.isfinite(mean_loss):
            raise TrainingDiverged(
                f"the training loss must stay finite; got {mean_loss} in epoch {epoch} of "
                f"{self.config.epochs} at lr {self.config.lr:g}. "
                "A smaller lr, warm-up or clip_grad_norm may help"
            )
        finite = torch.stack([p.detach().isfinite().all() for p in self.parameters]).all()
        if not bool(finite):
            raise TrainingDiverged(
                f"the weights must stay finite; some are not after epoch {epoch} of {self.config.epochs} "
                f"(training loss {mean_loss:g}) at lr {self.config.lr:g}. "
                "A smaller lr, warm-up or clip_grad_norm may help"
            )

    def state_dict(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "model": self.model.state_dict(),
            "loss": self.loss.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue after the epoch that ``state`` was taken at."""
        self.model.load_state_dict(state["model"])
        self.loss.load_state_dict(state["loss"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch = state["epoch"]
        self.loss.set_progress(self.epoch / self.config.epochs)


def build_optimizer(model: Classifier, loss: Loss, config: TrainingConfig) -> torch.optim.Optimizer:
    """The optimiser of the recipe.

    A loss's own parameters are a group without weight decay, at the loss's multiple of the learning rate; so
    are, at the full rate, those of the model that must not be decayed.
    """
    undecayed = set(model.undecayed())
    trained = [p for p in model.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {
            "params": [p for p in trained if p not in undecayed],
            "weight_decay": config.weight_decay,
            "lr_scale": 1.0,
        },
        {"params": [p for p in trained if p in undecayed], "weight_decay": 0.0, "lr_scale": 1.0},
        {
            "params": [p for p in loss.parameters() if p.requires_grad],
            "weight_decay": 0.0,
            "lr_scale": loss.lr_scale,
        },
    ]
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr)
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov)
