"""Calls in processes of their own, of which each may take so long."""

import math
import multiprocessing
import resource
import signal
import time
from itertools import islice
from multiprocessing.connection import Connection, wait
from typing import Any, Callable, Iterable, Iterator, List, Optional, Tuple

# What the process has imported is there in each of them.
_FORK = multiprocessing.get_context('fork')


def each_apart(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    workers: int = 1,
    seconds: Optional[int] = None,
) -> Iterator[Tuple[Any, Any, str]]:
    """Call a function with each item, some at a time.

    Args:
        function (Callable): What it returns has to be picklable.
        items (Iterable): What it is called with.
        workers (int): How many processes there are at a time. Defaults to 1.
        seconds (int, optional): Processor time after which a process is
            ended; ten times of that by the clock, on a machine that is busy
            with other things. Defaults to None: it takes what it takes.

    Yields:
        tuple: An item, what the function returned, and why it returned
        nothing; '' where it did.
    """
    waiting, running = iter(items), []
    while True:
        for item in islice(waiting, workers - len(running)):
            running.append(_begin(function, item, seconds))
        if not running:
            return
        wait([connection for _, _, connection, _ in running], 10)
        left: List[Tuple[Any, Any, Connection, float]] = []
        for item, process, connection, end in running:
            if connection.poll():
                yield item, *_outcome(process, connection)
            elif time.monotonic() >= end:
                process.kill()
                process.join()
                yield item, None, f'hangs: more than {10 * (seconds or 0)} s'
            else:
                left.append((item, process, connection, end))
        running = left


def _begin(
    function: Callable[[Any], Any], item: Any, seconds: Optional[int]
) -> Tuple[Any, Any, Connection, float]:
    ours, theirs = _FORK.Pipe(duplex=False)
    words = function, item, theirs, seconds
    process = _FORK.Process(target=_call, args=words)
    process.start()
    theirs.close()
    end = time.monotonic() + (10 * seconds if seconds else math.inf)
    return item, process, ours, end


def _call(
    function: Callable[[Any], Any],
    item: Any,
    connection: Connection,
    seconds: Optional[int],
) -> None:
    if seconds:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    connection.send(function(item))
    connection.close()


def _outcome(process: Any, connection: Connection) -> Tuple[Any, str]:
    try:
        found = connection.recv()
    except EOFError:
        process.join()
        if process.exitcode == -signal.SIGKILL:
            return None, 'takes more processor time or memory than it has'
        return None, f'ended its process ({process.exitcode})'
    process.join()
    return found, ''
