"""The servers that are measured: cohabd on a private socket, and the tool `cohab` that stands beside it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from cohab.server import Server, find_program, make_private_directory

from .scenario import Point, ScenarioError

START_TIMEOUT = 60.0
STOP_TIMEOUT = 10.0
_CLI_TIMEOUT = 30.0
_POLL_S = 0.02
_LOG_PREFIX = re.compile(r"^\S+ \S+ cohabd\[\d+\] \w+ +|^cohabd: ")


class RunError(Exception):
    """The test cannot go on: one line, then perhaps a program's own words."""


def find_programs() -> tuple[str, str]:
    """cohabd and cohab. Raises cohab.StartError or RunError where one is missing."""
    cohabd = find_program(None)
    tool = Path(cohabd).with_name("cohab")
    if not os.access(tool, os.X_OK):
        raise RunError(f"{tool} is not a program that can be run; it is built together with {cohabd}")
    return cohabd, str(tool)


def check_engine(cohabd: str, point: Point) -> None:
    """Load the engine once and look for the method, before anything is measured. Raises ScenarioError."""
    where = f"{point.place()}: " if point.group else ""
    arguments = ["--", *point.engine_args] if point.engine_args else []
    try:
        check = subprocess.run(
            [cohabd, "--check", point.engine, *arguments],
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        what = f"'{point.engine}' was not loaded and checked within {START_TIMEOUT:g} s"
        raise ScenarioError(f"{where}engine", what) from None
    if check.returncode != 0:
        words = _LOG_PREFIX.sub("", (check.stderr.strip() or "it says nothing").splitlines()[-1])
        raise ScenarioError(f"{where}engine", f"'{point.engine}': {words}")
    methods = re.findall(r"^  ([^(\s]+)\(", check.stdout, flags=re.MULTILINE)
    if point.work.method not in methods and not point.work.method.startswith("cohab."):
        known = ", ".join(methods) or "none"
        raise ScenarioError(
            f"{where}work",
            f"engine '{point.engine}' has no method '{point.work.method}'; its methods: {known}",
        )


class RunningServer:
    """One cohabd, ready with all workers. A context manager that stops it, whatever happens."""

    def __init__(self, cohabd: str, tool: str, point: Point) -> None:
        directory = make_private_directory()
        self.path = f"{directory}/s"
        self._tool = tool
        command = [cohabd, "--socket", self.path, "--workers", str(point.workers)]
        command += ["--stop-timeout", str(STOP_TIMEOUT), *point.server_options, point.engine]
        command += ["--", *point.engine_args] if point.engine_args else []
        try:
            self._server = Server(command, directory=directory, stop_timeout=STOP_TIMEOUT)
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        try:
            self.wait_ready()
        except BaseException:
            self._server.stop()
            raise

    @property
    def pid(self) -> int:
        return self._server.pid

    def status(self) -> dict[str, Any] | None:
        """None while it does not answer."""
        command = [self._tool, "--socket", self.path, "status", "--json"]
        try:
            result = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=_CLI_TIMEOUT,
                check=False,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            return None
        if result.returncode != 0:
            return None
        status: dict[str, Any] = json.loads(result.stdout)
        return status

    def wait_ready(self) -> None:
        """Until every worker waits for a request, also after kills. Raises RunError."""
        end = time.monotonic() + START_TIMEOUT
        while True:
            self.require_alive()
            status = self.status()
            if status and all(worker["state"] == "idle" for worker in status["workers"]):
                return
            if time.monotonic() > end:
                raise self._error(f"the server was not ready within {START_TIMEOUT:g} s")
            time.sleep(_POLL_S)

    def require_alive(self) -> None:
        ended = self._server.exit_status()
        if ended is not None:
            raise self._error(f"the server has ended ({ended})")

    def _error(self, what: str) -> RunError:
        return RunError(f"{what}; its last words:\n{self._server.last_words() or '(it wrote nothing)'}")

    def __enter__(self) -> RunningServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()
