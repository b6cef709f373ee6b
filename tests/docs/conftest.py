"""Fixtures of the tests that run the documentation."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from docs_server import COHAB, COHABD


def pytest_configure() -> None:
    for program in (COHABD, COHAB):
        if not program.exists():
            raise pytest.UsageError(f"{program} does not exist: build first, or set COHAB_BUILD_DIR")


@pytest.fixture
def directory() -> Iterator[Path]:
    """A private directory whose name is short enough for sockets."""
    path = Path(tempfile.mkdtemp(prefix="cohab-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)
