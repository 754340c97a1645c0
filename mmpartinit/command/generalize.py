"""From modules to the pattern that names them and nothing else."""

import re
from typing import Dict, List, Sequence, Tuple

from ..errors import RuleError
from ..model.tree import Node
from ..rules.patterns import is_strange, parse_pattern
from ..rules.selection import Selector

_NUMBER = re.compile(r'([0-9]+)')
# What is in no identifier, nor between the words of a name.
_NO_WORD = '[!a-zA-Z0-9_-]'


def skeleton(path: str) -> str:
    """A path without its numbers, which parts that are alike have in common.

    >>> skeleton('backbone.layer2.0.se')
    'backbone.layer#.#.se'
    """
    return _NUMBER.sub('#', path)


def patterns_for(selector: Selector, nodes: Sequence[Node]) -> List[str]:
    """Patterns that match these nodes, whose paths differ in numbers only, and
    nothing else; one where that can be.

    Raises:
        RuleError: If every pattern for a node names others as well.
    """
    split = [_NUMBER.split(node.path) for node in nodes]
    columns = [list(dict.fromkeys(column)) for column in zip(*split)]
    varying = [i for i, column in enumerate(columns) if len(column) > 1]
    for exact in (False, True):
        for wide in (True, False):
            pattern = ''.join(
                _field(selector, columns, i, wide and i in varying, exact)
                for i in range(len(columns))
            )
            if _names(selector, pattern, nodes):
                return [pattern]
    if not varying:
        raise RuleError.of(
            'path',
            f'no pattern names {nodes[0].path!r} and nothing else: name the '
            'module in another way',
            [nodes[0].path],
        )
    groups: Dict[str, List[Node]] = {}
    for node, pieces in zip(nodes, split):
        groups.setdefault(pieces[varying[0]], []).append(node)
    return [
        pattern
        for group in groups.values()
        for pattern in patterns_for(selector, group)
    ]


def _names(selector: Selector, pattern: str, nodes: Sequence[Node]) -> bool:
    selected = selector.select(parse_pattern(pattern))
    wanted = sorted(node.number for node in nodes)
    return [node.number for node in selected] == wanted


def _field(
    selector: Selector,
    columns: List[List[str]],
    place: int,
    wide: bool,
    exact: bool,
) -> str:
    """A piece of a pattern: fixed text, or the numbers that stand there."""
    values = columns[place]
    if len(values) == 1:
        return _fixed(values[0], exact)
    before, after = columns[place - 1][0], columns[place + 1][0]
    is_index = before.endswith('.') and after[:1] in ('.', '')
    if wide and (is_index or _are_all(selector, columns, place)):
        return '*'
    return _one_of(values)


def _fixed(text: str, exact: bool) -> str:
    """A part of a path as a pattern. Of what means something in a pattern, or
    belongs in none, any character will do, unless it is to be exact.
    """
    letters = []
    for letter in text:
        if letter in '{}' or is_strange(letter):
            letters.append(_NO_WORD if exact else '?')
        elif letter in '*?[]':
            letters.append(f'[{letter}]' if exact else '?')
        else:
            letters.append(letter)
    return ''.join(letters)


def _are_all(selector: Selector, columns: List[List[str]], place: int) -> bool:
    """Whether a model has no more than these, so that listing them (as in
    ``layer{2,3,4}``) would say nothing.
    """
    first = [column[0] for column in columns]
    start = _fixed(''.join(first[:place]), False)
    rest = _fixed(''.join(first[place + 1 :]).split('.')[0], False)
    siblings = selector.select(parse_pattern(f'{start}*{rest}'))
    return len(siblings) == len(columns[place])


def _one_of(values: List[str]) -> str:
    """Numbers as a pattern: ``{2,3,4}``, or ``[0-5]`` where they are many."""
    numbers: List[Tuple[int, str]] = sorted((int(v), v) for v in values)
    first, last = numbers[0][0], numbers[-1][0]
    if len(values) > 4 and last < 10 and last - first == len(values) - 1:
        return f'[{first}-{last}]'
    return '{' + ','.join(value for _, value in numbers) + '}'
