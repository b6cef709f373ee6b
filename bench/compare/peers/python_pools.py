"""In-process, and what Python itself offers to leave the process."""

from __future__ import annotations

import ctypes
import multiprocessing
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from typing import Any

from .. import work
from .base import Call, Load, Peer

# The default of Python 3.14: safe in a process with threads, unlike the fork of earlier ones.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([work.__name__])


class InProcess(Peer):
    """A C function called by ctypes: no isolation, and any number of threads at once in the library."""

    name = "ctypes, in-process"
    loader = ctypes.CDLL

    def start(self, load: Load) -> None:
        self._library = work.declare(self.loader(str(work.LIBRARY)))

    def connect(self, load: Load) -> Call:
        library = self._library
        copy = ctypes.create_string_buffer(max(1, load.payload))

        def call(method: str, argument: Any) -> Any:
            if method == "echo":
                library.echo(argument, len(argument), copy)
                return copy.raw
            return library.spin(argument) if method == "spin" else library.sleep_for(argument)

        return call


class InProcessWithGil(InProcess):
    """As an extension module that keeps the GIL, which a library needs that is not thread-safe."""

    name = "ctypes, in-process, GIL held"
    loader = ctypes.PyDLL


def serve_pipe(pipe: Connection) -> None:
    while True:
        try:
            method, argument = pipe.recv()
        except EOFError:
            return
        pipe.send(work.FUNCTIONS[method](argument))


class Pipe(Peer):
    name = "multiprocessing.Pipe"
    most_threads = 1
    why_not_threads = "a pipe serves one thread at a time"

    def start(self, load: Load) -> None:
        self._ours, theirs = CONTEXT.Pipe()
        process = CONTEXT.Process(target=serve_pipe, args=(theirs,))
        process.start()
        theirs.close()
        self._stack.callback(process.join)
        self._stack.callback(self._ours.close)

    def connect(self, load: Load) -> Call:
        pipe = self._ours

        def call(method: str, argument: Any) -> Any:
            pipe.send((method, argument))
            return pipe.recv()

        return call


class Rebuilt(Peer):
    """An executor that is of no use once a worker has died: whoever sees that first makes another."""

    def start(self, load: Load) -> None:
        self._lock = threading.Lock()
        self._executor = self._make(load)
        self._stack.callback(lambda: self._executor.shutdown(wait=True))

    def connect(self, load: Load) -> Call:
        functions = work.FUNCTIONS

        def call(method: str, argument: Any) -> Any:
            executor = self._executor
            try:
                return executor.submit(functions[method], argument).result(load.timeout)
            except BrokenProcessPool:
                self._rebuild(executor, load)
                raise

        return call

    def _rebuild(self, broken: Any, load: Load) -> None:
        with self._lock:
            if self._executor is broken:
                self._executor = self._make(load)
                broken.shutdown(wait=False)

    def _make(self, load: Load) -> Any:
        raise NotImplementedError


class ProcessPool(Rebuilt):
    name = "ProcessPoolExecutor"

    def _make(self, load: Load) -> Any:
        return ProcessPoolExecutor(load.workers, mp_context=CONTEXT)


class Loky(Rebuilt):
    name = "loky"
    needs_packages = ("loky",)

    def _make(self, load: Load) -> Any:
        import loky  # noqa: PLC0415 - optional

        return loky.get_reusable_executor(max_workers=load.workers, timeout=600)

    def _rebuild(self, broken: Any, load: Load) -> None:
        with self._lock:
            if self._executor is broken:
                self._executor = self._make(load)  # it has seen that the old one is broken
