"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def describe_machine(cohabd: str) -> dict[str, str]:
    """Labels and values, in the order in which they are told. What cannot be found out is left out."""
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    found = {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.1f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "distribution": _distribution(),
        "load before": f"{load} (1, 5, 15 minutes)",
        "cohab": _output([cohabd, "--version"]),
        "revision": _output(["git", "-C", str(ROOT), "describe", "--always", "--dirty"]),
    }
    return {label: value for label, value in found.items() if value}


def _processor() -> str:
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.machine()
    model = re.search(r"^model name\s*: (.*)$", cpuinfo, flags=re.MULTILINE)
    virtual = re.search(r"^flags\s*:.*\bhypervisor\b", cpuinfo, flags=re.MULTILINE)
    return (model[1] if model else platform.machine()) + (", virtual machine" if virtual else "")


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return ""


def _output(command: list[str]) -> str:
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""
