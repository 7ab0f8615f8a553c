"""Real processes that start in milliseconds: forked from one that has imported the store and has no threads of tests.

What runs in one is a function of a module; it talks through the connection that it is given first.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
# Besides the store what a module of tests imports, and what pyarrow does when it first makes an array.
CONTEXT.set_forkserver_preload(["__main__", "pytest", "pandas", "pipeline_assets.store.parquet"])
ANSWER_SECONDS = 60.0
"""Nothing here takes so long; a child that does has hung."""


class Child:
    """A running process, and our end of its connection."""

    def __init__(self, process: BaseProcess, connection: Connection) -> None:
        self.process = process
        self.connection = connection

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process.pid is not None
        return self.process.pid

    def send(self, message: object) -> None:
        """Say something to it."""
        self.connection.send(message)

    def receive(self) -> Any:
        """What it says next. An EOFError says that it died instead."""
        assert self.connection.poll(ANSWER_SECONDS), f"process {self.pid} does not answer"
        return self.connection.recv()

    def signal(self, number: signal.Signals) -> None:
        """Stop, continue or kill it."""
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Its exit status; minus the signal's number if one ended it."""
        self.process.join(ANSWER_SECONDS)
        assert self.process.exitcode is not None, f"process {self.pid} does not end"
        return self.process.exitcode

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.wait()


@contextmanager
def running(function: Callable[..., None], *arguments: object) -> Iterator[Child]:
    """Run `function(connection, *arguments)` in a process of its own; kill it on leaving if it still runs."""
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=function, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    child = Child(process, ours)
    try:
        yield child
    finally:
        child.kill()
        ours.close()
