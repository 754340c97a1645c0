"""Which modules and parameters of a model each rule acts on."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Dict, List, Optional, Set, Tuple, Union

import torch.nn as nn

from ..model.tensors import has_memory
from ..model.tree import ModelTree, Slot
from .init_cfg import reached
from .rule import Rule


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
        sources (list[Slot]): Where the rule copies, what lies at and under
            its source.
    """

    rule: Rule
    path: str
    node: Union[nn.Module, nn.Parameter]
    draw: int
    new: List[Slot]
    kept: List[Slot]
    sources: List[Slot] = field(default_factory=list)

    @property
    def target(self) -> nn.Module:
        """What initializers are called with.

        MMEngine's write a module's ``weight``; a bare parameter is given to
        them as the ``weight`` of a module that has nothing else.
        """
        if isinstance(self.node, nn.Module):
            return self.node
        return BareParameter(self.node)

    @property
    def copies(self) -> Dict[str, Slot]:
        """The tensors to copy, by the names of the new ones to write."""
        sources = {
            _below(slot.name, self.rule.copy_from): slot
            for slot in self.sources
        }
        pairs = {
            slot.name: sources.get(_below(slot.name, self.path))
            for slot in self.new
        }
        return {name: source for name, source in pairs.items() if source}

    def would_write(self) -> List[Slot]:
        """New tensors that the rule writes, or may write where only running
        an initializer tells (``Apply``, ``InitWeights``, ``Pretrained``,
        ``override`` and users' own).
        """
        if self.rule.copy_from is not None:
            copies = self.copies
            return [slot for slot in self.new if slot.name in copies]
        known = set()
        target = self.target
        for item in self.rule.init_cfg:
            modules = reached(item, target)
            if modules is None:
                return list(self.new)
            for module in modules:
                known.update(
                    id(getattr(module, key, None))
                    for key in ('weight', 'bias')
                )
        return [slot for slot in self.new if id(slot.tensor) in known]


def match_rules(
    tree: ModelTree, rules: List[Rule], loaded: Set[int]
) -> Tuple[List[Match], List[str]]:
    """Find what the rules act on; ``loaded`` holds ``id()`` of every loaded
    tensor.

    The matches are in the order of the rules, and within a rule in that of
    the model. With them comes a sentence for each path that matches nothing
    although it has to.
    """
    matches: List[Match] = []
    problems: List[str] = []
    draws: Counter = Counter()
    for rule in rules:
        sources: List[Slot] = []
        if rule.copy_from is not None:
            source = tree.index.get(rule.copy_from)
            if source is None:
                problems.append(_no_match(rule, rule.copy_from, tree))
            else:
                sources = tree.slots_under(source)
        numbers: Set[int] = set()
        for path, alternatives in zip(rule.paths, rule.alternatives):
            selected = tree.select(alternatives)
            numbers.update(selected)
            if not selected and not rule.optional:
                # Looking for near names takes long in a big model.
                hint = len(problems) < 20
                problem = _no_match(rule, path, tree, hint)
                problems.append(f'{problem} (optional=True would allow that)')
        for number in tree.outermost(numbers):
            path, slots = tree.paths[number], tree.slots_under(number)
            kept = [s for s in slots if id(s.tensor) in loaded]
            if rule.overwrite:
                kept = []
            spared = {id(slot.tensor) for slot in kept}
            new = [slot for slot in slots if id(slot.tensor) not in spared]
            node = tree.nodes[number]
            matches.append(
                Match(rule, path, node, draws[path], new, kept, sources)
            )
            draws[path] += 1
    return matches, problems


def loaded_ids(slots: List[Slot], names: Set[str]) -> Set[int]:
    """``id()`` of the tensors that were loaded, under any of their names, and
    of those that share memory with them.
    """
    loaded = [slot.tensor for slot in slots if slot.name in names]
    others = [slot.tensor for slot in slots if slot.name not in names]
    ids = set(map(id, loaded))
    memory = {tensor.data_ptr() for tensor in loaded if has_memory(tensor)}
    ids.update(
        id(tensor)
        for tensor in others
        if has_memory(tensor) and tensor.data_ptr() in memory
    )
    return ids


def _below(name: str, path: Optional[str]) -> str:
    """A name as seen from a path that it is at or under."""
    return name[len(path) + 1 :] if path else name


def _no_match(
    rule: Rule, path: str, tree: ModelTree, hint: bool = True
) -> str:
    near = tree.nearest(path) if hint else []
    if near:
        there = 'the nearest that do exist: ' + ', '.join(near)
    else:
        parts = [name for name in tree.paths if name and '.' not in name]
        there = 'the model consists of ' + ', '.join(parts[:12])
    return f'{rule}: no module and no parameter matches {path!r}; {there}'
