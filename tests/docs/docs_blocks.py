"""The fenced blocks of a page of documentation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"


class Block(NamedTuple):
    language: str
    words: list[str]  # what follows the language on the opening line
    text: str
    line: int

    def option(self, name: str) -> str | None:
        """The value of a word name=value."""
        for word in self.words:
            if word.startswith(f"{name}="):
                return word[len(name) + 1 :]
        return None


def read_page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def blocks_of(page: str) -> list[Block]:
    """All fenced blocks of docs/`page`, in order."""
    found: list[Block] = []
    opening: list[str] | None = None
    start, lines = 0, []
    for number, line in enumerate(read_page(page).splitlines(), start=1):
        if not line.startswith("```"):
            lines.append(line)
        elif opening is None:
            opening, start, lines = line[3:].split() or [""], number, []
        else:
            found.append(Block(opening[0], opening[1:], "".join(f"{text}\n" for text in lines), start))
            opening = None
    assert opening is None, f"{page}:{start}: the block is never closed"
    return found


def rows_under(page: str, header: str) -> list[list[str]]:
    """The cells of all tables whose header line begins with `header`."""
    rows: list[list[str]] = []
    inside = False
    for line in read_page(page).splitlines():
        if line.startswith(header):
            inside = True
        elif not line.startswith("|"):
            inside = False
        elif inside and not line.startswith("| ---"):
            rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    assert rows, f"{page} has no table {header}"
    return rows


def anchors_of(page: str) -> set[str]:
    """What a link can lead to, by GitHub's rule."""
    text = re.sub(r"^```.*?^```", "", read_page(page), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
