"""A block at a place, measured: without the hook, and as suggested."""

import re
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, List, Set

from .cases import Case
from .running import Training, suggest, train, write_config

SEEDS = (0, 1, 2)  # of the values that are drawn
ITERATIONS = 60
OUTCOMES = (
    'found',
    'kept',
    'none',
    'not known',
    'nothing to suggest',
    'not tried',
    'failed',
)
HARMLESS = 5.0  # in percent of what later parts compute
FEW = 10  # which tell what the loss can move at all
# Adam takes a parameter with a gradient about 3e-4 a step, whatever its size,
# and one whose gradient is nothing but rounding at most a third of that in all
# of them. Where a start has a zero in the way, a gradient may be tiny and grow
# later; what is stuck stays at exactly 0.
CAN_MOVE = 1e-4
MOVES = 1e-8


@dataclass
class Row:
    """A line of the table; accuracies are in percent.

    Attributes:
        block (str): The block.
        group (str): Who wrote it.
        place (str): Where it is put.
        gate (bool): Whether it is a gate, which can open but for a rest.
        outcome (str): What `suggest` says of the start that it gives.
        said (list[str]): Its comments about it.
        before (list[float]): At iteration 0 without the hook, for each seed.
        pasted (list[float]): At iteration 0 as suggested.
        before_trained (float): After 60 iterations without the hook.
        pasted_trained (float): After 60 iterations as suggested.
        movable (int): How many parameters the loss can move.
        stuck (list[str]): Those that do not move as suggested.
    """

    block: str
    group: str
    place: str
    gate: bool
    outcome: str
    said: List[str]
    before: List[float]
    pasted: List[float]
    before_trained: float
    pasted_trained: float
    movable: int
    stuck: List[str]

    @property
    def name(self) -> str:
        """Block and place."""
        return f'{self.block} @ {self.place}'

    @property
    def means(self) -> Any:
        """Mean accuracies at iteration 0: without the hook, as suggested."""
        return statistics.mean(self.before), statistics.mean(self.pasted)

    def to_dict(self) -> Dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def measure(case: Case, weights: str, folder: Path) -> Row:
    """Measure a case.

    Args:
        case (Case): The block and the place.
        weights (str): The pretrained weights.
        folder (Path): Where configs and logs may lie.
    """
    plain, pasted = folder / 'plain.py', folder / 'pasted.py'
    write_config(plain, case.model, weights, case.parts)
    text = suggest(plain)
    pasted.write_text(f'{plain.read_text()}\n{text}')
    before, after = map(_trainings, (plain, pasted))
    drawn = train(plain, iterations=FEW, drawn=True)
    movable = _beyond(CAN_MOVE, before[0]) | _beyond(CAN_MOVE, drawn)
    return Row(
        case.block.name,
        case.block.group,
        case.place,
        case.block.gate,
        outcome_of(text),
        said_in(text),
        [training.accuracy[0] for training in before],
        [training.accuracy[0] for training in after],
        before[0].accuracy[-1],
        after[0].accuracy[-1],
        len(movable),
        sorted(movable - _beyond(MOVES, after[0])),
    )


def reference(weights: str, folder: Path) -> List[float]:
    """Accuracy of the network without a block, before training and after."""
    path = folder / 'reference.py'
    backbone = dict(type='SmallResNet')
    model = dict(type='DigitsClassifier', backbone=backbone)
    write_config(path, model, weights)
    return train(path, iterations=ITERATIONS).accuracy


def said_in(text: str) -> List[str]:
    """The comments in a suggestion, but for commented-out rules; those that
    go on over several lines in one."""
    said: List[str] = []
    goes_on = False
    for line in text.splitlines():
        comment = line.strip()
        if not comment.startswith('# '):
            goes_on = False
        elif not comment.startswith(('# dict(', '#     ', '# )')):
            words = comment[2:]
            if goes_on:
                said[-1] += f' {words}'
            else:
                said.append(words)
            goes_on = True
    return said


def outcome_of(text: str) -> str:
    """What `suggest` says of the start that it gives, one of
    :data:`OUTCOMES`; of several, the one that promises least.
    """
    said = ' '.join(said_in(text)).lower()
    if said.startswith('failed:'):
        return 'failed'
    if 'no start was tried' in said:
        return 'not tried'
    if 'tried: none' in said:
        return 'none'
    if 'tried: not known' in said:
        return 'not known'
    # What the block's own code chose is kept, whatever the trial says of it.
    changes = re.findall(r'later parts(?: change)? by ([\d.]+) %', said)
    if 'kept as its own' in said:
        harmless = changes and all(float(n) <= HARMLESS for n in changes)
        return 'found' if harmless else 'kept'
    if changes:
        return 'found'
    if 'nothing to suggest' in said:
        return 'nothing to suggest'
    return 'not tried'


def _trainings(path: Path) -> List[Training]:
    """One of all iterations, and the starts alone of other seeds."""
    first, *others = SEEDS
    whole = train(path, first, ITERATIONS)
    return [whole, *(train(path, seed) for seed in others)]


def _beyond(floor: float, training: Training) -> Set[str]:
    return {name for name, way in training.travel.items() if way > floor}
