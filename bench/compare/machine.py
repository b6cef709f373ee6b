"""What was measured on, and with which versions of what."""

from __future__ import annotations

import datetime
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path


def describe() -> dict[str, str]:
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": model[1] if model else platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory:.0f} GiB",
        "kernel": platform.release(),
        "huge pages": _chosen("/sys/kernel/mm/transparent_hugepage/enabled"),
        "load before": f"{os.getloadavg()[0]:.2f}",
    }


def _chosen(path: str) -> str:
    """The word in brackets: "always [madvise] never"."""
    try:
        found = re.search(r"\[(\w+)\]", Path(path).read_text())
    except OSError:
        return "unknown"
    return found[1] if found else "unknown"


def package_versions(names: Sequence[str]) -> dict[str, str]:
    """Of Python packages; those that are not installed are left out."""
    found = {"Python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def first_version(command: Sequence[str]) -> str:
    """The first thing like 1.2.3 in what a program prints; nothing if it cannot be asked."""
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout
    except OSError:
        return ""
    found = re.search(r"\d+(\.\d+)+", output)
    return found[0] if found else ""
