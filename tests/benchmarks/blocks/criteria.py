"""What has to hold for every block, and where it does not."""

import statistics
from typing import Dict, List

from .measure import Row

CLOSE = 0.5  # points
CHANCE = 15.0  # of ten classes; less is the same
CLOSE_GATE = 2.0  # a gate does not open whole
WORSE = 'worse at iteration 0 than without the hook'
FAR = 'a start was found that is not close to the pretrained network'
STUCK = 'parameters that do not move'
FAILED = 'suggest failed'


def problems(row: Row, pretrained: float) -> List[str]:
    """What does not hold for a block at a place.

    Args:
        row (Row): What was measured.
        pretrained (float): The accuracy without the block, in percent.
    """
    close = CLOSE_GATE if row.gate else CLOSE
    holds = {
        FAILED: row.outcome != 'failed',
        WORSE: not _is_worse(row),
        FAR: row.outcome != 'found' or min(row.pasted) >= pretrained - close,
        STUCK: not row.stuck,
    }
    return [problem for problem, is_fine in holds.items() if not is_fine]


def count(rows: List[Row], pretrained: float) -> Dict[str, int]:
    """How many rows have each problem."""
    found = [p for row in rows for p in problems(row, pretrained)]
    return {kind: found.count(kind) for kind in (FAILED, WORSE, FAR, STUCK)}


def _is_worse(row: Row) -> bool:
    """Whether it is worse by more than the draws of the seeds explain."""
    before, pasted = (
        [max(CHANCE, accuracy) for accuracy in accuracies]
        for accuracies in (row.before, row.pasted)
    )
    noise = statistics.variance(before) + statistics.variance(pasted)
    error = (noise / len(before)) ** 0.5
    less = statistics.mean(before) - statistics.mean(pasted)
    return less > max(CLOSE, 2 * error)
