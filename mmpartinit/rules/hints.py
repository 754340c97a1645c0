"""What may be meant by a path that matches nothing in a model."""

import re
from typing import Dict, List, Sequence, Tuple

import torch.nn as nn

from ..errors import RuleError, some
from .patterns import first_place, what_is_strange
from .selection import Selector

_NUMBER = re.compile(r'(\d+)')


def no_match(
    path: str, selector: Selector, hint: bool = True, more: str = ''
) -> RuleError:
    """The error that a path matches nothing; with ``hint``, it says what may
    be meant, which takes long to find in a big model.
    """
    text = _mistaken(path, selector) if hint else ''
    if not text:
        near = selector.nearest(path) if hint else []
        paths = selector.tree.index
        parts = [name for name in paths if name and '.' not in name]
        text = 'the model consists of ' + ', '.join(parts[:12])
        if near:
            text = 'the nearest that do exist: ' + ', '.join(near)
        text += more
    return RuleError.of(
        'path-not-found',
        f'no module and no parameter matches {path!r}; {text}',
    )


def _mistaken(path: str, selector: Selector) -> str:
    """What is taken for a path and is none; '' if it may be one."""
    letters = set().union(*selector.tree.index)
    place = first_place(path, letters)
    if place is not None:
        return what_is_strange(path, place)
    name = path.rpartition('.')[2]
    places = [
        node.path or "'**', the whole model"
        for node in selector.tree.nodes
        if isinstance(node.value, nn.Module)
        and type(node.value).__name__ == name
    ]
    if not places:
        return ''
    where = some(_alike(places), 3)
    return f'{name} is a class, and a path has names; it is at {where}'


def _alike(paths: Sequence[str]) -> List[str]:
    """Paths that differ in numbers only as one, with their number:
    ``layer*.0.se (3)``.
    """
    groups: Dict[Tuple[str, ...], List[List[str]]] = {}
    for path in paths:
        pieces = _NUMBER.split(path)
        groups.setdefault(tuple(pieces[::2]), []).append(pieces)
    found = []
    for group in groups.values():
        columns = zip(*group)
        path = ''.join(c[0] if len(set(c)) == 1 else '*' for c in columns)
        found.append(path + (f' ({len(group)})' if len(group) > 1 else ''))
    return found
