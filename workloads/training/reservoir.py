"""A replay memory: a uniform sample of a stream of rows, whatever its length."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from workloads.training.augmentation.philox import below, words
from workloads.training.seeds import derive_seed


class Reservoir:
    """A fixed number of rows in which every row of the stream is with the same probability.

    Row k of the stream (from 0) goes to slot k while there are free slots; later ones draw r from 0..k and
    replace slot r where there is one. All draws are functions of the seed and of k, or of the seed and the
    number of the draw, and are made on the CPU: nothing waits for the device, it does not matter how the
    stream is cut into batches, and a resumed run decides as an undisturbed one.

    Rows are dictionaries of columns (``images``, ``labels``, ``task`` ...); the first batch says which, of
    which shape and type. Memory grows as rows come, up to ``capacity``.

    Args:
        capacity: rows that are kept, at least 1.
        seed: of the run.
        device: where rows are kept.
    Raises: ValueError where capacity < 1.
    Source: Vitter 1985, "Random sampling with a reservoir", algorithm R.
    Differs from source: the draws' bias is below (k + 1) / 2^32.
    """

    def __init__(self, capacity: int, seed: int, device: torch.device) -> None:
        if capacity < 1:
            raise ValueError(f"a reservoir's capacity must be at least 1; got {capacity}")
        self.capacity = capacity
        self.seed = seed
        self.device = device
        self.seen = 0
        """Rows of the stream so far."""
        self._columns: dict[str, Tensor] = {}
        """Each [allocated rows, ...], of which the first ``len(self)`` are in use."""

    def __len__(self) -> int:
        """Rows in the memory."""
        return min(self.seen, self.capacity)

    def add(self, **columns: Tensor) -> None:
        """The next rows of the stream, as columns [rows, ...] on any device.

        Raises: ValueError where columns differ in their number of rows, or from those before in name, shape
            or type.
        """
        count = self._check(columns)
        k = torch.arange(self.seen, self.seen + count)
        drawn = below(words(derive_seed(self.seed, "reservoir"), k, 0)[0], k + 1)
        slots = torch.where(k < self.capacity, k, drawn).tolist()
        # A dictionary keeps the last row of a slot; writing both would leave the order to the device.
        winners = {slot: row for row, slot in enumerate(slots) if slot < self.capacity}
        self.seen += count
        self._allocate(columns)
        if not winners:
            return
        rows = torch.tensor(list(winners.values()))
        target = torch.tensor(list(winners), device=self.device)
        for name, values in columns.items():
            self._columns[name][target] = values.detach()[rows.to(values.device)].to(self.device)

    def sample(self, count: int, draw_number: int) -> dict[str, Tensor]:
        """``count`` different rows in random order, or all where there are fewer.

        The same for the same contents and ``draw_number``, 0..2^32-1; another number is another draw.

        Raises: ValueError where count < 0.
        """
        if count < 0:
            raise ValueError(f"a sample has at least 0 rows; got {count}")
        filled = len(self)
        steps = torch.arange(min(count, filled))
        picks = below(words(derive_seed(self.seed, "replay"), steps, draw_number)[0], filled - steps)
        # The first steps of a shuffle: what a place holds is written down only where it moved.
        moved: dict[int, int] = {}
        chosen = []
        for step, pick in enumerate(picks.tolist()):
            place = step + pick
            chosen.append(moved.get(place, place))
            moved[place] = moved.get(step, step)
        rows = torch.tensor(chosen, dtype=torch.int64).to(self.device)
        return {name: values[rows] for name, values in self._columns.items()}

    def class_counts(self, num_classes: int) -> Tensor:
        """Rows of each class, int64 [classes], on the CPU: counts column ``labels`` and waits for the device.

        Raises: ValueError where a label is not a class.
        """
        if len(self) == 0:
            return torch.zeros(num_classes, dtype=torch.int64)
        counts = torch.bincount(self._columns["labels"][: len(self)].cpu(), minlength=num_classes)
        if len(counts) > num_classes:
            raise ValueError(f"labels must be below {num_classes}; got {len(counts) - 1}")
        return counts

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs: whole numbers, and copies of the rows."""
        rows = {name: values[: len(self)].clone() for name, values in self._columns.items()}
        return {"capacity": self.capacity, "seed": self.seed, "seen": self.seen, "columns": rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state_dict` was taken. Raises: ValueError for another capacity or seed."""
        for name, own in (("capacity", self.capacity), ("seed", self.seed)):
            if state[name] != own:
                raise ValueError(f"the saved reservoir has {name} {state[name]}; this one has {own}")
        self.seen = state["seen"]
        self._columns = {name: values.to(self.device, copy=True) for name, values in state["columns"].items()}

    def _check(self, columns: dict[str, Tensor]) -> int:
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"columns must have one number of rows; got {lengths or 'no columns'}")
        given, kept = _facts(columns), _facts(self._columns)
        if kept and given != kept:
            raise ValueError(f"columns must be those of the rows before, {kept}; got {given}")
        return next(iter(lengths.values()))

    def _allocate(self, columns: dict[str, Tensor]) -> None:
        for name, values in columns.items():
            held = self._columns.get(name, values.new_empty(0, *values.shape[1:], device=self.device))
            if len(held) < len(self):
                # Twice what was held, so that filling a large memory copies each row about once.
                rows = min(self.capacity, max(len(self), 2 * len(held)))
                grown = held.new_empty(rows, *held.shape[1:])
                grown[: len(held)] = held
                held = grown
            self._columns[name] = held


def _facts(columns: dict[str, Tensor]) -> dict[str, tuple[list[int], torch.dtype]]:
    """The shape of a row and the type of each column, by name."""
    return {name: (list(values.shape[1:]), values.dtype) for name, values in sorted(columns.items())}
