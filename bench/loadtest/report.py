"""PURE. The report: one HTML file that needs no other, with the pictures in it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from .results import Result, describe_common, group_results, notes
from .tables import EXPLANATION, table_of

_STYLE = """
:root { color-scheme: light; }
body { max-width: 1000px; margin: 2rem auto; padding: 0 1rem; }
body { font: 16px/1.5 system-ui, sans-serif; color: #222; }
h1 { font-size: 1.6rem; margin-bottom: 0; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 0; border-top: 1px solid #ddd; padding-top: 1.2rem; }
.muted, figcaption { color: #6b6b6b; }
figure { margin: 1.5rem 0; }
img { width: 100%; height: auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.2rem 0.7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #ddd; }
table.facts th, table.facts td { text-align: left; }
.notes { border-left: 4px solid #D55E00; padding: 0.1rem 1rem; background: #fdf3ec; }
pre { background: #f6f6f6; padding: 1rem; overflow-x: auto; font-size: 0.85rem; }
"""


@dataclass(frozen=True)
class Picture:
    group: str
    title: str
    svg: bytes


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>\n" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def _picture(picture: Picture) -> str:
    # As an image, not inline: identifiers in one drawing then cannot meet those of another.
    data = base64.b64encode(picture.svg).decode("ascii")
    return f'<figure><img src="data:image/svg+xml;base64,{data}" alt="{escape(picture.title)}"></figure>'


def _facts(facts: Mapping[str, str]) -> str:
    rows = "".join(f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>\n" for k, v in facts.items())
    return f'<table class="facts">{rows}</table>'


def _group(name: str, results: Sequence[Result], pictures: Sequence[Picture]) -> str:
    parts = [
        f"<h2>{escape(name or 'Results')}</h2>",
        f'<p class="muted">{escape(describe_common(results))}</p>',
    ]
    parts += [_picture(picture) for picture in pictures if picture.group == name]
    return "\n".join([*parts, _table(*table_of(results))])


def build_report(document: Mapping[str, Any], results: Sequence[Result], pictures: Sequence[Picture]) -> str:
    """The page, from the content of the results file, its points, and their pictures."""
    scenario = document["scenario"]
    title = escape(scenario["title"])
    parts = [
        f"<h1>{title}</h1>",
        f'<p class="muted">{escape(document["began"])}, {escape(document["machine"]["cohab"])}</p>',
    ]
    if scenario["description"]:
        parts.append(f"<p>{escape(scenario['description'])}</p>")
    remarks = notes(results)
    if not document["complete"]:
        remarks.insert(0, "The test was ended before its last round: these are the figures until then.")
    if remarks:
        parts.append(
            f'<div class="notes"><ul>{"".join(f"<li>{escape(note)}</li>" for note in remarks)}</ul></div>'
        )
    parts += [_group(name, members, pictures) for name, members in group_results(results).items()]
    parts += [f'<p class="muted">{escape(EXPLANATION)}</p>', "<h2>Machine</h2>", _facts(document["machine"])]
    changes = f" with {scenario['changes']}" if scenario["changes"] else ""
    parts += [f"<h2>Scenario{escape(changes)}</h2>\n<pre>{escape(scenario['text'])}</pre>"]
    body = "\n".join(parts)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{title}</title>\n'
        f"<style>{_STYLE}</style></head>\n<body>\n{body}\n</body>\n</html>\n"
    )
