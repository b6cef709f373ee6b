"""Links between the pages lead somewhere."""

from __future__ import annotations

import re

import pytest
from docs_blocks import DOCS, anchors_of, read_page


@pytest.mark.parametrize("page", ["protocol.md", "engine.md", "bench.md", "loadtest.md", "performance.md"])
def test_links(page: str) -> None:
    text = re.sub(r"^```.*?^```", "", read_page(page), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert links
    for link in links:
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = name or page
        assert (DOCS / target).exists(), link
        if anchor:
            assert anchor in anchors_of(target), link
