"""Two ways to do the same work, timed in turns."""

import statistics
import time
from dataclasses import dataclass
from typing import Callable, List, Optional


@dataclass
class Row:
    """One line of the table.

    Attributes:
        name (str): Short name, the same in every table.
        what (str): What is measured.
        against (str): What it is compared with.
        ratio (float): Median of the ratios of all turns.
        limit (float, optional): What the ratio should not exceed.
        ours (float): Median of what is measured, in `unit`.
        peer (float): Median of what it is compared with.
        unit (str): Unit of both.
    """

    name: str
    what: str
    against: str
    ratio: float
    limit: Optional[float]
    ours: float
    peer: float
    unit: str = 'ms'


def seconds(action: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def in_turns(
    name: str,
    what: str,
    against: str,
    limit: Optional[float],
    ours: Callable[[], object],
    peer: Callable[[], object],
    turns: int = 15,
    clock: Callable[[Callable[[], object]], float] = seconds,
) -> Row:
    """Time two actions in turns, each first in every other turn.

    Args:
        name (str): Short name of the row.
        what (str): What is measured.
        against (str): What it is compared with.
        limit (float, optional): What the ratio should not exceed.
        ours (Callable): What is measured.
        peer (Callable): What it is compared with.
        turns (int): How often; two more turns warm up.
        clock (Callable): Gives the seconds that an action takes.

    Returns:
        Row: Medians.
    """
    spent: List[List[float]] = [[], []]
    for turn in range(turns + 2):
        for side in (0, 1) if turn % 2 else (1, 0):
            taken = clock((ours, peer)[side])
            if turn >= 2:
                spent[side].append(1e3 * taken)
    return row(name, what, against, limit, *spent)


def row(name, what, against, limit, ours, peer) -> Row:
    """A row from the milliseconds of each turn."""
    return Row(
        name,
        what,
        against,
        statistics.median(a / b for a, b in zip(ours, peer)),
        limit,
        statistics.median(ours),
        statistics.median(peer),
    )
