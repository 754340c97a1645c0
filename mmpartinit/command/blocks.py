"""What each new block of a config's network does to it, with its rules."""

import textwrap
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Set

from rich import box
from rich.table import Table

from ..errors import some
from ..report.text import table_lines
from ..trial.network import Network
from ..trial.places import INPUT, LAYER, ONE, OPEN, ZERO
from ..trial.trial import Outcome
from .families import Groups, families, title
from .look import Look, LookError
from .trying import Tried, percent, try_out

# What is harmless, in words.
_USES = {
    ZERO: 'added to features',
    ONE: 'multiplied with features',
    OPEN: 'multiplied with features, as a gate',
    INPUT: 'in the way of features',
    LAYER: 'added to a loaded layer',
}


@dataclass
class Block:
    """New parts that stand together, and what came of how they start.

    Attributes:
        title (str): What they are.
        paths (list[str]): Their paths.
        use (str): What is done with what they give; ``''`` if that is not
            known.
        why (str): Why it is not known.
        outcome (Outcome, optional): What came of it, where it is known.
    """

    title: str
    paths: List[str]
    use: str
    why: str
    outcome: Optional[Outcome] = None

    @property
    def is_fine(self) -> bool:
        """Whether nothing is wrong with it, as far as is known."""
        return self.outcome is None or self.outcome.is_neutral

    def to_dict(self) -> Dict[str, Any]:
        """All of it as plain data."""
        found = dict(vars(self), fine=self.is_fine)
        return dict(found, outcome=self.outcome and vars(self.outcome))


def check_blocks(
    seen: Look, network: Network, tolerance: Optional[float]
) -> List[Block]:
    """Try how the new blocks of a network start, as they are now.

    Args:
        seen (Look): The model.
        network (Network): The same, to be run.
        tolerance (float, optional): By how much later parts may change, if
            that is not to depend on the block.

    Raises:
        LookError: If the network could not be run.
    """
    parts = seen.new_parts
    tried = try_out(seen, parts, seen.origins.kept, network)
    if tried.trial is None:
        raise LookError(f'the network could not be run: {tried.why}')
    every = families(parts, tried)
    return [_block(family, tried, tolerance) for family in every]


def gates_ahead(seen: Look, network: Network, order: List[str]) -> List[int]:
    """How many gates of new blocks are computed ahead of each part of a
    network, whose paths are given in the order of computation.

    Raises:
        LookError: If the network could not be run to find them.
    """
    tried = try_out(seen, seen.new_parts, seen.origins.kept, network)
    if tried.trial is None:
        raise LookError(
            'gates ahead of parts could not be looked for; say how far parts '
            f'may be by --tolerance ({tried.why})'
        )
    ahead: List[int] = []
    known: Set[str] = set()
    count = 0
    gates = {
        layer: gate
        for place in tried.trial.places
        for gate in place.gates
        for layer in gate.layers
    }
    for path in order:
        ahead.append(count)
        inside = {n for n in gates if f'{n}.'.startswith(f'{path}.')} - known
        count += len({id(gates[layer]) for layer in inside})
        known |= inside
    return ahead


def blocks_text(blocks: List[Block], how: str, width: int) -> str:
    """What came of the blocks, as a table and a sentence."""
    if not blocks:
        return 'The network has no new parts beside pretrained ones.'
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column('new block', overflow='fold')
    table.add_column('is', overflow='fold')
    for name in ('drift', 'allowed', 'learn'):
        table.add_column(name, justify='right', no_wrap=True)
    for block in blocks:
        table.add_row(block.title.rstrip('.'), *_cells(block))
    said = [f'The network ran on {how}.', *filter(None, map(_said, blocks))]
    if all(block.is_fine for block in blocks):
        said.append(
            'Each block of which it is known leaves the pretrained network as '
            'it was, and learns.'
        )
    said = [textwrap.fill(s, width, break_on_hyphens=False) for s in said]
    return '\n'.join([*table_lines(table, width), *said])


def _cells(block: Block) -> List[str]:
    outcome = block.outcome
    if outcome is None:
        return ['not known', '', '', '']
    learning = len(outcome.learning)
    number = learning + len(outcome.stuck)
    learn = f'{learning} of {number}' if outcome.is_harmless else ''
    drift, allowed = map(percent, (outcome.drift, outcome.allowed))
    return [block.use, drift, allowed, learn]


def _said(block: Block) -> str:
    """What is wrong with a block, or why it is not known."""
    name, outcome = block.title.rstrip('.'), block.outcome
    if outcome is None:
        return f'{name}: not known what would be harmless, since {block.why}.'
    if outcome.failed:
        return f'{name}: the network does not run with it: {outcome.failed}'
    if not outcome.is_harmless:
        return (
            f'{name}: later parts change by {percent(outcome.drift)} at '
            'iteration 0; `mmpartinit suggest` looks for a start that leaves '
            'them as they were.'
        )
    if not outcome.stays:
        return (
            f'{name}: leaves later parts as they were at iteration 0 only; '
            'the first step changes them by as much as a norm behind a layer '
            'that starts at 0 gives.'
        )
    if outcome.stuck:
        return (
            f'{name}: no gradient reaches {some(outcome.stuck, 3)} within '
            'four steps.'
        )
    return ''


def _block(groups: Groups, tried: Tried, tolerance: Optional[float]) -> Block:
    nodes = [node for nodes in groups for node in nodes]
    places = tried.places(nodes)
    names = ' '.join(title(nodes) for nodes in groups)
    paths = [node.path for node in nodes]
    unknown = [place for place in places if not place.use]
    if unknown or not places:
        why = unknown[0].why if unknown else 'it is not called'
        return Block(names, paths, '', why)
    uses = list(dict.fromkeys(_USES[place.use] for place in places))
    outcome = tried.outcome(places, tolerance)
    return Block(names, paths, ', '.join(uses), '', outcome)
