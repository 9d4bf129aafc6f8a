"""When a model is compiled, and that it never silently is not."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from workloads.contract import TrainingConfig
from workloads.head import HeadOutput
from workloads.models.base import Classifier


def compiled(
    model: Classifier, config: TrainingConfig, device: torch.device
) -> Callable[[Tensor], HeadOutput]:
    """The model's forward pass, compiled where ``config.compile`` says so.

    ``auto`` compiles nothing: on the CPU compiling was measured to lose (0.6 to 1.0 times the speed and 10 to
    26 s before the first step), and on a GPU it has not been measured. ``on`` compiles the whole model as one
    graph and raises where that is impossible; on a GPU its steps are replayed as CUDA graphs.
    """
    if config.compile != "on":
        return model
    # Workers run many trials in a process: the limit on recompilations counts over all of them, and beyond
    # it torch would go on uncompiled without a word.
    torch.compiler.reset()
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    # The compiler takes over what was decided before it was loaded.
    torch.use_deterministic_algorithms(torch.are_deterministic_algorithms_enabled())
    mode = "reduce-overhead" if device.type == "cuda" else "default"
    forward: Callable[[Tensor], HeadOutput] = torch.compile(model, fullgraph=True, mode=mode)
    return forward
