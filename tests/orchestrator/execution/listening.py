"""Which processes listen for connections, as the kernel tells it."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterable, Iterator
from pathlib import Path

_LISTEN = "0A"


def listeners(pids: Iterable[int]) -> Iterator[tuple[int, str, int]]:
    """(pid, address, port) of every TCP socket on which one of the processes listens."""
    sockets = {}
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTEN:
                address, port = fields[1].split(":")
                sockets[f"socket:[{fields[9]}]"] = (_address(address), int(port, 16))
    for pid in pids:
        with contextlib.suppress(OSError):
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    found = sockets.get(str(descriptor.readlink()))
                    if found:
                        yield pid, *found


def is_loopback(address: str) -> bool:
    found = ipaddress.ip_address(address)
    inner = getattr(found, "ipv4_mapped", None)
    return (inner or found).is_loopback


def _address(text: str) -> str:
    """Of the kernel's notation: 32-bit words, each with its least byte first."""
    raw = b"".join(bytes.fromhex(text[i : i + 8])[::-1] for i in range(0, len(text), 8))
    return str(ipaddress.ip_address(raw))
