"""`Pool`: a client together with a server of its own."""

from __future__ import annotations

import os
import shutil
import time
import weakref
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

from .client import (
    DEFAULT_CONNECT_TIMEOUT,
    DEFAULT_MAX_CONNECTIONS,
    DEFAULT_REPLY_MARGIN,
    DEFAULT_RETRIES,
    DEFAULT_TIMEOUT,
    Client,
    StrPath,
    positive_ns,
)
from .errors import DeadlineExceeded, Error, InvalidArgument, StartError, Unavailable
from .protocol import DEFAULT_MAX_FRAME
from .server import DEFAULT_STOP_TIMEOUT, Server, find_program, make_private_directory

DEFAULT_STARTUP_TIMEOUT = 60.0
_PING_TIMEOUT = 1.0
_PING_MARGIN = 0.1
_ADMIN_TIMEOUT = 5.0
_START_POLL_S = 0.01


class Pool(Client):
    """Starts a server for `engine` and calls it: all that a `Client` does, and `close` stops the server.

    The server is started here and now, and is ready when the constructor returns. A forked child can use
    the pool, but only the process that created it stops the server: by `close`, when the pool is
    collected, or at exit; should it be killed, the server notices and stops by itself.
    """

    def __init__(
        self,
        engine: StrPath,
        *,
        workers: int | str | None = None,
        args: Sequence[str] = (),
        timeout: float = DEFAULT_TIMEOUT,
        cohabd: StrPath | None = None,
        startup_timeout: float = DEFAULT_STARTUP_TIMEOUT,
        connect_timeout: float = DEFAULT_CONNECT_TIMEOUT,
        max_connections: int = DEFAULT_MAX_CONNECTIONS,
        max_frame: int = DEFAULT_MAX_FRAME,
        default_timeout: float | None = None,
        max_timeout: float | None = None,
        kill_grace: float | None = None,
        cancel_kill: float | None = None,
        io_timeout: float | None = None,
        spin_us: int | None = None,
        stop_timeout: float | None = None,
        log_level: str | None = None,
        log_file: StrPath | None = None,
        log_format: str | None = None,
        log_requests: bool = False,
        slow: float | None = None,
        retries: int = DEFAULT_RETRIES,
        idle_timeout: float | None = None,
        spare: int | None = None,
        max_requests: int | None = None,
        max_private: int | str | None = None,
        max_age: float | None = None,
        max_queue_time: float | None = None,
        load_timeout: float | None = None,
        crash_dir: StrPath | None = None,
        crash_keep: int | None = None,
        crash_keep_size: int | str | None = None,
        crash_params: bool | None = None,
        core: bool = False,
        max_memory: int | str | None = None,
        slow_stack: float | None = None,
        quarantine_after: int | None = None,
        quarantine_timeouts: bool = False,
    ) -> None:
        """Start ``cohabd ENGINE -- ARGS`` on a private socket and wait until it answers.

        `workers` is the number of worker processes, or ``"MIN:MAX"``; None means one for each core.
        `timeout`, `connect_timeout`, `max_connections`, `max_frame` and `retries` are those of
        `cohab.connect`. `startup_timeout` limits, in seconds, loading the engine. The rest is passed to
        the server as the options of the same name; None leaves it the server's default. Times are in
        seconds; sizes are in bytes, or words such as ``"512M"``.

        Crash reports outlive the pool: they go to `crash_dir`, which must exist, or to the place that
        ``cohabd --help`` names; `cohab crash list` shows them.

        The server's log goes to the logger ``cohab.server``, at the levels that its lines have, or, with
        `log_file`, to that file.

        Raises StartError, with the server's own words, if it does not come up, and InvalidArgument.
        """
        self._server: Server | None = None
        if isinstance(args, (str, bytes)):
            raise InvalidArgument(
                f"args must be a sequence of strings, such as [{args!r}], not one string",
                reason="BAD_ARGUMENT",
            )
        positive_ns("startup_timeout", startup_timeout)
        program = find_program(cohabd)
        directory = make_private_directory()
        try:
            super().__init__(
                os.path.join(directory, "s"),
                timeout=timeout,
                connect_timeout=connect_timeout,
                max_connections=max_connections,
                max_frame=max_frame,
                reply_margin=max(DEFAULT_REPLY_MARGIN, 2 * (kill_grace or 0.0) + 0.5),
                retries=retries,
            )
            options = {
                "--socket": self.path,
                "--workers": workers,
                "--max-frame": max_frame if max_frame != DEFAULT_MAX_FRAME else None,
                "--default-timeout": default_timeout,
                "--max-timeout": max_timeout,
                "--kill-grace": kill_grace,
                "--cancel-kill": cancel_kill,
                "--io-timeout": io_timeout,
                "--spin-us": spin_us,
                "--stop-timeout": stop_timeout,
                "--log-level": log_level,
                "--log-file": None if log_file is None else os.fspath(log_file),
                "--log-format": log_format,
                "--log-requests": log_requests,
                "--slow": slow,
                "--idle-timeout": idle_timeout,
                "--spare": spare,
                "--max-requests": max_requests,
                "--max-private": max_private,
                "--max-age": max_age,
                "--max-queue-time": max_queue_time,
                "--load-timeout": load_timeout,
                "--crash-dir": None if crash_dir is None else os.fspath(crash_dir),
                "--crash-keep": crash_keep,
                "--crash-keep-size": crash_keep_size,
                "--crash-params": None if crash_params is None else "on" if crash_params else "off",
                "--core": core,
                "--max-memory": max_memory,
                "--slow-stack": slow_stack,
                "--quarantine-after": quarantine_after,
                "--quarantine-timeouts": quarantine_timeouts,
            }
            self._server = server = Server(
                [program, *_command_line(options), os.fspath(engine), *(["--", *args] if args else [])],
                directory=directory,
                stop_timeout=DEFAULT_STOP_TIMEOUT if stop_timeout is None else stop_timeout,
            )
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        self._finalizer = weakref.finalize(self, server.stop)
        try:
            self._wait_until_serving(server, startup_timeout)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Process id of the server."""
        assert self._server is not None
        return self._server.pid

    @property
    def crash_dir(self) -> str | None:
        """Where the server writes crash reports, as it says itself; None if it writes none."""
        with Client(f"{self.path}.ctl", timeout=_ADMIN_TIMEOUT) as admin:
            directory: str | None = admin.call("status")["crashes"]["directory"]
        return directory

    def close(self) -> None:
        """Close the connections and, in the process that created the pool, stop the server.

        Calls that run may finish within the server's stop time-out. Can be repeated.
        """
        super().close()
        if self._server is not None:
            self._finalizer()

    def __enter__(self) -> Pool:
        return self

    def call(
        self, method: str, /, *params: Any, timeout: float | None = None, retries: int | None = None
    ) -> Any:
        """As `Client.call`. If the pool's own server has ended, the error says how."""
        try:
            return super().call(method, *params, timeout=timeout, retries=retries)
        except Unavailable as exc:
            server = self._server
            ended = server.exit_status() if server is not None and exc.reason == "NO_SERVER" else None
            if ended is None:
                raise
            raise Unavailable(
                f"the pool's own server has ended ({ended}); its log tells why (the logger cohab.server). "
                "Close this pool and make a new one",
                reason="NO_SERVER",
                method=method,
            ) from exc

    def _state(self) -> str:
        state = super()._state()
        return state if self._closed or self._server is None else f"server {self._server.pid}, {state}"

    def _wait_until_serving(self, server: Server, startup_timeout: float) -> None:
        end = monotonic() + startup_timeout
        left = startup_timeout
        while (failure := self._failed_ping(min(_PING_TIMEOUT, left))) is not None:
            ended = server.exit_status()
            if ended is not None:
                raise self._start_error(server, f"the server did not start ({ended})") from failure
            time.sleep(_START_POLL_S)
            left = end - monotonic()
            if left <= 0:
                raise self._start_error(
                    server, f"the server did not serve within {startup_timeout:g} s (startup_timeout)"
                ) from failure

    def _failed_ping(self, timeout: float) -> Error | None:
        # A function of its own, so that no frame and its exception refer to each other and to the pool.
        try:
            with Client(self.path, reply_margin=_PING_MARGIN) as client:  # the pool's margin may be long
                client.ping(timeout=timeout)
        except (Unavailable, DeadlineExceeded) as exc:
            return exc
        return None

    @staticmethod
    def _start_error(server: Server, what: str) -> StartError:
        words = server.last_words() or "(it wrote nothing)"
        return StartError(f"{what}; its last words:\n{words}", reason="START_FAILED")


def _command_line(options: Mapping[str, object]) -> list[str]:
    """True is a switch that is on; what is None or False is left out."""
    words: list[str] = []
    for name, value in options.items():
        if value is True:
            words.append(name)
        elif value is not None and value is not False:
            words += (name, str(value))
    return words
