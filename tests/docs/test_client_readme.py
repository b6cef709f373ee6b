"""client-python/README.md: its Python runs as it is written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from docs_blocks import REPOSITORY
from docs_server import BUILD, COHABD, TIMEOUT, running_server

SOCKET = "/run/cohab/spell.sock"
TEXT = (REPOSITORY / "client-python" / "README.md").read_text(encoding="utf-8")
BLOCKS = [part.partition("\n```")[0] for part in TEXT.split("```python\n")[1:]]


def test_there_are_blocks() -> None:
    assert SOCKET in "".join(BLOCKS)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_block(number: int, directory: Path) -> None:
    with running_server(directory, engine=BUILD / "engine" / "libspell.so", args=["en_US"]) as server:
        subprocess.run(
            [sys.executable, "-c", BLOCKS[number].replace(SOCKET, server.path)],
            check=True,
            timeout=TIMEOUT,
            env={**os.environ, "COHABD": str(COHABD), "XDG_STATE_HOME": str(directory)},
        )
