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
from workloads.training.batches import Batch, Batches, Normaliser
from workloads.training.compilation import compiled
from workloads.training.numerics import autocast
from workloads.training.objective import Objective
from workloads.training.optimizers import build_optimizer
from workloads.training.schedule import learning_rate, place
from workloads.training.seeds import derive_seed
from workloads.training.selection import Selection, check


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
        objective: Objective | None = None,
    ) -> None:
        """``objective``: what a step minimises; None: the loss of its batch.

        Modules of the model whose parameters need no gradient stay in evaluation mode: a frozen trunk also
        keeps the running statistics of its batch norms.

        Raises: ValueError where images are mixed for a loss that takes hard labels, or chosen by losses that
            they do not have.
        """
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
        self.objective = objective or Objective()
        check(config, loss, batches.image_shape[0])
        self.selection = Selection.of(config, len(batches.labels), batches.device)
        if self.selection is not None:
            self.objective.detailed = True
        self.epoch = 0
        """Finished epochs."""
        self.forward_passes = 0
        """Images that went through the model in training, so far."""
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
            last step), ``train/forward_passes`` (images so far), where images are chosen ``train/skipped``
            and ``train/stressed``, and the loss's own ``loss/...``.
        Raises: TrainingDiverged where the loss or a weight is no longer finite.
        """
        epoch = self.epoch + 1
        # Dropout, and whatever else draws from the global generator.
        torch.manual_seed(derive_seed(self.seed, "step", epoch))
        self.model.train()
        for part in self.model.children():
            part.train(any(p.requires_grad for p in part.parameters()))
        self.loss.train()
        device = self.batches.device
        # Summed on the device: nothing in an epoch waits for it.
        loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        correct = torch.zeros((), dtype=torch.int64, device=device)
        steps = len(self.batches)
        choice = None if self.selection is None else self.selection.choose(self.seed, epoch)
        batches = self.batches.epoch(epoch, self.normalise, choice)
        taken = self.batches.steps(epoch, choice)
        self.objective.begin_epoch(epoch)
        rate, seen = 0.0, 0
        for index, batch in enumerate(batches):
            step = (epoch - 1) * steps + place(index, taken, steps)
            self.loss.set_progress(step / (self.config.epochs * steps))
            rate = learning_rate(self.config, step, steps)
            value, hits = self._step(batch, rate)
            loss_sum += value * len(batch.labels)
            correct += hits
            seen += len(batch.labels)
        mean_loss = float(loss_sum) / seen
        self._check_finite(epoch, mean_loss)
        self.epoch = epoch
        self.loss.set_progress(epoch / self.config.epochs)
        return {
            "train/loss": mean_loss,
            "train/accuracy": int(correct) / seen,
            "train/lr": rate,
            "train/forward_passes": float(self.forward_passes),
            **({} if choice is None else choice.metrics()),
            **{f"loss/{name}": value for name, value in self.loss.stats().items()},
        }

    def _step(self, batch: Batch, rate: float) -> tuple[Tensor, Tensor]:
        """One optimiser step; the loss and the number of hits stay on the device."""
        self.optimizer.set_rate(rate)
        objective = self.objective
        images = objective.images(batch)
        self.forward_passes += len(images)
        with autocast(self.config.precision, images.device):
            output: HeadOutput = self._forward(images)
        value, losses = objective.value(self.loss, output, batch)
        self.optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        if self.config.clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.config.clip_grad_norm)
        # Before the weights change: some losses read the head's rows, or a scale, again.
        with torch.no_grad():
            said = output.detach()
            if len(images) > len(batch.labels):
                said = said.rows(slice(len(batch.labels)))
            hits = objective.hits(self.loss, said, batch)
            objective.before_step(self.loss, said, batch)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        if self.selection is not None and losses is not None:
            self.selection.saw(batch.index, losses)
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
            "objective": self.objective.state_dict(),
            "forward_passes": self.forward_passes,
        }
        if self.selection is not None:
            state["selection"] = self.selection.state_dict()
        if self.average is not None:
            state["average"] = self.average.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue after the epoch that ``state`` was taken at."""
        self.model.load_state_dict(state["model"])
        self.loss.load_state_dict(state["loss"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.objective.load_state_dict(state["objective"])
        self.forward_passes = state["forward_passes"]
        if self.selection is not None:
            self.selection.load_state_dict(state["selection"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.epoch = state["epoch"]
        self.loss.set_progress(self.epoch / self.config.epochs)
