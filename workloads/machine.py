"""What a trial is trained on."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


@cache
def processor_name() -> str:
    """The model of this machine's processor, else its architecture."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def environment(device: str) -> dict[str, str]:
    """What a number may depend on of the process that makes it.

    Args:
        device: torch's name of it, such as ``cpu``, ``cuda`` or ``cuda:1``.
    Returns: ``device``, a GPU's or the processor's model; ``torch``, its version with the build's tag
        (``2.15.0+cu130``).
    """
    import torch

    on = torch.device(device)
    name = torch.cuda.get_device_name(on) if on.type == "cuda" else processor_name()
    return {"device": name, "torch": torch.__version__}
