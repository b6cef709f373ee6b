"""Runs what the README shows, block by block and in its order, in a directory of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("COHAB_BUILD_DIR", ROOT / "build"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# The two commands that set everything up, which this very run is part of, and the line that finds what they
# have built.
SET_UP = ("scripts/demo", "export PATH")
TIMEOUT = 60


def blocks() -> list[tuple[str, str]]:
    return [(match[1], match[2]) for match in BLOCK.finditer((ROOT / "README.md").read_text())]


def run(command: list[str], directory: Path, log: Path) -> str:
    """Runs to its end; servers that it leaves in the background write to the log: nobody closes a pipe."""
    environment = {**os.environ, "PATH": f"{BUILD}:{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment["COHABD"] = str(BUILD / "cohabd")
    with log.open("w") as output:
        result = subprocess.run(
            command,
            cwd=directory,
            env=environment,
            stdout=output,
            stderr=output,
            timeout=TIMEOUT,
            check=False,
        )
    text = log.read_text()
    assert result.returncode == 0, text
    return text


def test_every_block_of_the_readme(tmp_path: Path) -> None:
    (tmp_path / "include").symlink_to(ROOT / "include")
    outputs: list[str] = []
    for number, (language, text) in enumerate(blocks()):
        here = text.replace("/tmp/", f"{tmp_path}/")  # sockets of other runs are not touched
        log = tmp_path / f"{number}.log"
        if language == "c":
            (tmp_path / "vectors.c").write_text(here)
        elif language == "python":
            outputs.append(run([sys.executable, "-c", here], tmp_path, log))
        elif language == "sh" and not text.startswith(SET_UP):
            outputs.append(run(["bash", "-euc", here], tmp_path, log))
    whole = "\n".join(outputs)
    assert "receive" in whole  # Pool, and cohab call suggest
    assert "wrogn False" in whole
    assert "['work" in whole  # stem
    assert "[10.0, 25.0, 30.0]" in whole
    assert "scale(values: array[float], factor: float = 2.0) -> list[float]" in whole


def test_the_engine_is_about_twenty_lines() -> None:
    engine = next(text for language, text in blocks() if language == "c")
    assert len(engine.splitlines()) <= 21


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), target
