"""Which modules and parameters of a model each rule acts on."""

from collections import Counter
from dataclasses import dataclass
from typing import List, Set, Tuple, Union

import torch.nn as nn

from .paths import ModelTree, Slot
from .rules import Rule
from .watch import has_memory


class BareParameter(nn.Module):
    """Stands for a bare parameter, as a module whose ``weight`` it is."""

    def __init__(self, parameter: nn.Parameter) -> None:
        super().__init__()
        self.weight = parameter


@dataclass
class Match:
    """A module or parameter that a rule acts on.

    Attributes:
        rule (Rule): The rule.
        path (str): Path of the module or parameter.
        node (nn.Module | nn.Parameter): The thing itself.
        draw (int): How many earlier rules act on the same path.
        new (list[Slot]): State-dict entries under it that may be written.
        kept (list[Slot]): Those that must stay as they are.
    """

    rule: Rule
    path: str
    node: Union[nn.Module, nn.Parameter]
    draw: int
    new: List[Slot]
    kept: List[Slot]

    @property
    def target(self) -> nn.Module:
        """What initializers are called with.

        MMEngine's write a module's ``weight``; a bare parameter is given to
        them as the ``weight`` of a module that has nothing else.
        """
        if isinstance(self.node, nn.Module):
            return self.node
        return BareParameter(self.node)


def match_rules(
    tree: ModelTree, rules: List[Rule], loaded: Set[int]
) -> Tuple[List[Match], List[str]]:
    """Find what the rules act on.

    Args:
        tree (ModelTree): The model's paths and its state dict.
        rules (list[Rule]): The rules, in order.
        loaded (set[int]): ``id()`` of every loaded tensor.

    Returns:
        tuple[list[Match], list[str]]: The matches, in the order of the rules
        and within a rule in that of the model; and a sentence for each path
        that matches nothing although it has to.
    """
    matches: List[Match] = []
    problems: List[str] = []
    draws: Counter = Counter()
    for rule in rules:
        numbers: Set[int] = set()
        for path, alternatives in zip(rule.paths, rule.alternatives):
            selected = tree.select(alternatives)
            numbers.update(selected)
            if not selected and not rule.optional:
                # Looking for near names takes long in a big model.
                hint = len(problems) < 20
                problems.append(_no_match(rule, path, tree, hint))
        for number in tree.outermost(numbers):
            path, slots = tree.paths[number], tree.slots_under(number)
            kept = [s for s in slots if id(s.tensor) in loaded]
            if rule.overwrite:
                kept = []
            spared = {id(slot.tensor) for slot in kept}
            new = [slot for slot in slots if id(slot.tensor) not in spared]
            node = tree.nodes[number]
            matches.append(Match(rule, path, node, draws[path], new, kept))
            draws[path] += 1
    return matches, problems


def loaded_ids(slots: List[Slot], names: Set[str]) -> Set[int]:
    """``id()`` of the tensors that were loaded, under any of their names, and
    of those that share memory with them.
    """
    loaded = [slot.tensor for slot in slots if slot.name in names]
    ids = {id(tensor) for tensor in loaded}
    memory = {t.data_ptr() for t in loaded if has_memory(t)}
    return ids.union(
        id(slot.tensor)
        for slot in slots
        if has_memory(slot.tensor) and slot.tensor.data_ptr() in memory
    )


def _no_match(rule: Rule, path: str, tree: ModelTree, hint: bool) -> str:
    near = tree.nearest(path) if hint else []
    if near:
        there = 'the nearest that do exist: ' + ', '.join(near)
    else:
        parts = [name for name in tree.paths if name and '.' not in name]
        there = 'the model consists of ' + ', '.join(parts[:12])
    return (
        f'{rule}: no module and no parameter matches {path!r}; {there} '
        '(optional=True would allow that)'
    )
