"""Tables and the report."""

from __future__ import annotations

from typing import Any

from loadtest.report import Picture, build_report
from loadtest.scenario import Work
from loadtest.tables import align_table, table_of
from loadtest.units import format_duration, format_seconds, format_size
from rounds import make_result, make_round


def document(**changes: Any) -> dict[str, Any]:
    scenario = {"title": "a <b>", "description": "", "text": "workers = 1 # <&>", "changes": "--rounds 2"}
    machine = {"cores": "2", "cohab": "cohabd 0.1.0"}
    return {"scenario": scenario, "machine": machine, "began": "2026-01-01", "complete": True, **changes}


def test_a_table_has_columns_for_what_differs() -> None:
    header, rows = table_of(
        [make_result(make_round(12345), make_round(12345), workers=w, connections=9) for w in (1, 2)]
    )
    assert header[:3] == ["workers", "calls/s", "spread"]
    assert "kills" not in header
    assert rows[1][:4] == ["2", "12,345", "0%", "1.000"]


def test_a_table_counts_kills_where_there_are_some() -> None:
    header, rows = table_of(
        [make_result(make_round(kills=[1.0, 1.5]), kill_every=0.5), make_result(make_round(latency=None))]
    )
    assert rows[0][header.index("kills")] == "2"
    assert rows[0][header.index("kill every")] == "500 ms"
    assert rows[1][header.index("p50 ms")] == "-"
    assert rows[1][header.index("spread")] == "-"  # of one round


def test_tables_line_up() -> None:
    assert align_table(["a", "bbb"], [["100", "2"]]) == ["  a  bbb", "100    2"]


def test_the_report_holds_everything_and_escapes_it() -> None:
    results = [make_result(group="one", work=Work("<w>", "m")), make_result(group="two")]
    page = build_report(document(), results, [Picture("two", "of <two>", b"<svg/>")])
    assert "<title>a &lt;b&gt;</title>" in page
    assert "workers = 1 # &lt;&amp;&gt;" in page
    assert "<h2>Scenario with --rounds 2</h2>" in page
    assert "<w>" not in page
    assert (
        page.index("<h2>one</h2>")
        < page.index("<h2>two</h2>")
        < page.index("data:image/svg+xml;base64,PHN2Zy8+")
    )
    assert 'alt="of &lt;two&gt;"' in page
    assert "http" not in page  # it needs nothing from elsewhere
    assert 'class="notes"' not in page


def test_the_report_says_that_it_is_not_complete() -> None:
    page = build_report(document(complete=False), [make_result()], [])
    assert "ended before its last round" in page


def test_units() -> None:
    assert [format_size(n) for n in (0, 64, 1000, 1024, 3 << 20)] == [
        "0 B",
        "64 B",
        "1000 B",
        "1 KiB",
        "3 MiB",
    ]
    assert [format_seconds(s) for s in (2e-5, 0.005, 0.5, 1, 1.5)] == [
        "20 µs",
        "5 ms",
        "500 ms",
        "1 s",
        "1.5 s",
    ]
    assert [format_duration(s) for s in (-1, 59.6, 125)] == ["0 s", "1 min 0 s", "2 min 5 s"]
