"""New parts of a model that are alike, and that stand together."""

from typing import Any, Dict, Iterable, List, Sequence, Set, Tuple

import torch.nn as nn

from ..model.tree import Node
from .generalize import skeleton
from .trying import Tried

# Parts that are alike, list by list.
Groups = List[List[Node]]


def families(nodes: Sequence[Node], tried: Tried) -> List[Groups]:
    """Groups of parts that are alike; those that stand at the same places of
    the network are a family.
    """
    found: List[Groups] = []
    known: List[Set[int]] = []
    for group in _groups(tried.parts(nodes)):
        ids = {id(place) for place in tried.places(group)}
        family, place = [group], len(found)
        for i in reversed(range(len(found))):
            if known[i] & ids:
                family, place = [*found.pop(i), *family], i
                ids |= known.pop(i)
        found.insert(place, family)
        known.insert(place, ids)
    return found


def title(nodes: List[Node]) -> str:
    """What some parts are, and how many."""
    value = nodes[0].value
    kind = (
        type(value).__name__
        if isinstance(value, nn.Module)
        else f'Parameter of shape {tuple(value.shape)}'
    )
    times = f', {len(nodes)} times' if len(nodes) > 1 else ''
    return f'{kind}{times}.'


def _groups(nodes: Iterable[Node]) -> Groups:
    """Parts whose paths differ in numbers only, and made of the same."""
    groups: Dict[Tuple[Any, ...], List[Node]] = {}
    for node in nodes:
        kinds: Tuple[Any, ...] = (type(node.value),)
        if isinstance(node.value, nn.Module):
            if not any(True for _ in node.value.parameters()):
                continue
            kinds = tuple(
                (name, type(module))
                for name, module in node.value.named_modules()
            )
        groups.setdefault((skeleton(node.path), kinds), []).append(node)
    return list(groups.values())
