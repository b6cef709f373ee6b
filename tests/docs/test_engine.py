"""docs/engine.md: its files are compiled, its commands are run, and its outputs are compared."""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import cohab
import pytest
from docs_blocks import REPOSITORY, blocks_of, rows_under
from docs_server import running_server
from docs_shell import Shell, run_session

PAGE = "engine.md"
BLOCKS = blocks_of(PAGE)
FILES = {name: block for block in BLOCKS if (name := block.option("file"))}
SOURCES = [name for name in FILES if name.endswith((".c", ".cpp"))]
SESSIONS = list(dict.fromkeys(block.words[0] for block in BLOCKS if block.language == "console"))

needs_python_h = pytest.mark.skipif(
    not Path(sysconfig.get_path("include"), "Python.h").exists(),
    reason="Python.h is not installed (python3-dev), so the C extension cannot be compiled",
)


def of_extension(name: str) -> bool:
    return name in ("pricingmodule.c", "pricing-extension")


def parameters(names: list[str]) -> list[object]:
    return [pytest.param(name, marks=[needs_python_h] if of_extension(name) else []) for name in names]


@pytest.fixture
def workplace(directory: Path) -> Path:
    """A directory with all files of the page."""
    for name, block in FILES.items():
        (directory / name).write_text(block.text, encoding="utf-8")
    return directory


# ---- the files


@pytest.mark.parametrize("name", parameters(SOURCES))
def test_compiles_without_a_warning(name: str, workplace: Path) -> None:
    flags = ["-shared", "-fPIC", "-Wall", "-Werror", f"-I{REPOSITORY / 'include'}"]
    if of_extension(name):
        flags.append(f"-I{sysconfig.get_path('include')}")
    compiler = ["c++", "-std=c++20"] if name.endswith(".cpp") else ["cc", "-std=gnu17", "-Wextra"]
    command = [*compiler, *flags, "-o", "library.so", name, "-lm"]
    result = subprocess.run(command, cwd=workplace, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


# ---- the commands


@pytest.fixture
def shell(workplace: Path) -> Iterator[Shell]:
    shell = Shell(workplace)
    yield shell
    shell.close()


@pytest.mark.parametrize("session", parameters(SESSIONS))
def test_commands(session: str, shell: Shell) -> None:
    run_session(
        shell, PAGE, (block for block in BLOCKS if block.language == "console" and block.words[0] == session)
    )


# ---- what the page says about error texts

CHECKED = """
#include <cohab/engine.h>
static int f(struct cohab_call *call) { (void)call; return 0; }
static int g(struct cohab_call *call) { (void)call; return -1; }
static int h(struct cohab_call *call)
{
    return msgpack_pack_array(cohab_result(call), 2);
}
static const struct cohab_method methods[] = {
    {.name = "f", .function = f, .signature = "f(d: dict[str, int]) -> None"},
    {.name = "g", .function = g, .signature = "g() -> None"},
    {.name = "h", .function = h, .signature = "h() -> Any"},
};
const struct cohab_engine cohab_engine = {COHAB_ENGINE_HEADER(methods), .name = "checked", .version = "1"};
"""


def test_error_texts(directory: Path) -> None:
    texts = "\n".join(cell for row in rows_under(PAGE, "| call | text |") for cell in row)
    page = " ".join((REPOSITORY / "docs" / PAGE).read_text(encoding="utf-8").split())
    (directory / "checked.c").write_text(CHECKED)
    library = directory / "libchecked.so"
    command = ["cc", "-shared", "-fPIC", f"-I{REPOSITORY / 'include'}", "-o", str(library), "checked.c"]
    subprocess.run(command, cwd=directory, check=True)

    def message(sock_path: str, method: str, *params: object) -> str:
        with cohab.connect(sock_path) as client, pytest.raises(cohab.Error) as caught:
            client.call(method, *params)
        return caught.value.message

    with running_server(directory, engine=library) as server:
        assert message(server.path, "f", {"key": None}) in texts
        assert message(server.path, "f", {3: 3}) in texts
        assert message(server.path, "g").removeprefix("g(): ") in page
        assert message(server.path, "h").removeprefix("h(): the engine ") in page


def test_every_parse_and_return_code_is_in_the_tables() -> None:
    """The tables name the codes that the header names."""
    header = (REPOSITORY / "include" / "cohab" / "engine.h").read_text(encoding="utf-8")
    parse, result = header[header.index(" *   p  bool *") :].split("int cohab_parse(", maxsplit=1)
    for text, table in ((parse, "| code | variables |"), (result, "| code | arguments |")):
        codes = set(re.findall(r"^ \*   ([a-zA-Z]#?)  ", text, flags=re.MULTILINE))
        listed = {code for row in rows_under(PAGE, table) for code in re.findall(r"`([^`]+)`", row[0])}
        assert codes, table
        assert codes <= listed, codes - listed


def test_tools_are_there() -> None:
    for tool in ("cc", "c++", "pkg-config", "bash"):
        assert shutil.which(tool), tool
