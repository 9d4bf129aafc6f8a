"""The only training loop."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from workloads.contract import TrainingConfig, TrainingDiverged
from workloads.head import HeadOutput
from workloads.losses.base import Loss
from workloads.models.base import Classifier
from workloads.training.batches import Batches, Normaliser
from workloads.training.compilation import compiled
from workloads.training.numerics import autocast
from workloads.training.optimizers import build_optimizer
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
        if batches.mixes and loss.targets == "hard":
            raise ValueError(
                f"augmentation: mixup and cutmix mix labels, and {type(loss).__name__} takes hard labels only"
            )
        self.model = model
        self.loss = loss
        self.batches = batches
        self.normalise = normalise
        self.config = config
        self.seed = seed
        self.epoch = 0
        """Finished epochs."""
        self.parameters = [p for p in (*model.parameters(), *loss.parameters()) if p.requires_grad]
        """Every trainable parameter, of the model and of the loss."""
        self.optimizer = build_optimizer(model, loss, config)
        self.average: AveragedModel | None = None
        if config.ema_decay is not None:
            average = get_ema_multi_avg_fn(config.ema_decay)  # type: ignore[no-untyped-call]
            self.average = AveragedModel(model, multi_avg_fn=average, use_buffers=True)
        self._forward = compiled(model, config, batches.device)

    @property
    def evaluated(self) -> Classifier:
        """The model that is measured: the running mean of the weights, where the recipe asks for one."""
        return self.model if self.average is None else cast(Classifier, self.average.module)

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
        device = self.batches.device
        # Summed on the device: nothing in an epoch waits for it.
        loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        correct = torch.zeros((), dtype=torch.int64, device=device)
        steps = len(self.batches)
        rate, seen = 0.0, 0
        for index, (images, labels, targets) in enumerate(self.batches.epoch(epoch, self.normalise)):
            step = (epoch - 1) * steps + index
            self.loss.set_progress(step / (self.config.epochs * steps))
            rate = learning_rate(self.config, step, steps)
            value, hits = self._step(images, labels, targets, rate)
            loss_sum += value * len(labels)
            correct += hits
            seen += len(labels)
        mean_loss = float(loss_sum) / seen
        self._check_finite(epoch, mean_loss)
        self.epoch = epoch
        self.loss.set_progress(epoch / self.config.epochs)
        return {
            "train/loss": mean_loss,
            "train/accuracy": int(correct) / seen,
            "train/lr": rate,
            **{f"loss/{name}": value for name, value in self.loss.stats().items()},
        }

    def _step(self, images: Tensor, labels: Tensor, targets: Tensor, rate: float) -> tuple[Tensor, Tensor]:
        """One optimiser step; the loss and the number of hits stay on the device."""
        self.optimizer.set_rate(rate)
        with autocast(self.config.precision, images.device):
            output: HeadOutput = self._forward(images)
        value: Tensor = self.loss(output, targets)
        self.optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        if self.config.clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.config.clip_grad_norm)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        with torch.no_grad():
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
        state = {
            "epoch": self.epoch,
            "model": self.model.state_dict(),
            "loss": self.loss.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        if self.average is not None:
            state["average"] = self.average.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue after the epoch that ``state`` was taken at."""
        self.model.load_state_dict(state["model"])
        self.loss.load_state_dict(state["loss"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.epoch = state["epoch"]
        self.loss.set_progress(self.epoch / self.config.epochs)
