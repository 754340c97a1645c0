"""Rules for new parts, by what their owners say and by their layers."""

from typing import (
    Any,
    Dict,
    Iterable,
    Iterator,
    List,
    Optional,
    Sequence,
    Set,
    Tuple,
)

import torch.nn as nn

from ..initializers.layers import has_init_weights
from ..model.tree import ModelTree, Node
from ..rules.selection import Selector
from .families import Groups, title
from .generalize import patterns_for
from .starts import (
    InitCfg,
    bare_parameters,
    by_layers,
    by_owner,
    by_value,
    has_own_code,
)
from .suggestion import Suggestion
from .trying import Values

_OWN: InitCfg = dict(type='InitWeights')


class RuleMaker:
    """Makes rules for the new parts of a model.

    Args:
        tree (ModelTree): The model.
        values (Values): What its new tensors were built with.
    """

    def __init__(self, tree: ModelTree, values: Values) -> None:
        self.tree, self.values = tree, values
        self.selector = Selector(tree)
        self._known: Dict[str, Set[str]] = {}
        self._single: Set[str] = set()

    def try_owners(self, groups: Sequence[List[Node]]) -> None:
        """Find out together what is asked first about the parts that rules
        are for: what their own init_weights() writes, or that of what a layer
        is in, which is asked of single layers and may write to these alone.
        """
        single = [nodes for nodes in groups if _is_single(nodes[0].value)]
        self._single = set().union(*map(self._names, single))
        rules = {}
        for nodes in groups:
            path = self._asked_first(nodes)
            if path:
                rule = dict(path=path, init_cfg=[_OWN])
                rules[repr(rule)] = rule
        if len(rules) > 1:
            written = self.values.written_by(list(rules.values()))
            self._known.update(zip(rules, written))

    def _asked_first(self, nodes: List[Node]) -> List[str]:
        if all(has_init_weights(node.value) for node in nodes):
            return self.patterns(nodes)
        segments = nodes[0].path.split('.')
        steps = range(1, len(segments) if _is_single(nodes[0].value) else 1)
        for step in steps:
            owner = self.tree.index['.'.join(segments[:-step])].value
            if has_own_code(owner):
                return self.patterns(self._above(nodes, step))
        return []

    def rules_for(self, nodes: List[Node]) -> Iterator[Suggestion]:
        """Rules for new parts that are alike."""
        value = nodes[0].value
        if _is_single(value):
            known = self._by_owner(nodes)
            if known is not None:
                yield known
                written = self._written(known.path, known.init_cfg)
                for below in self._left(nodes, written):
                    yield from self._bare(below, [title(below)])
                nodes = [n for n in nodes if not self._names([n]) & written]
                if not nodes:
                    return
        path, comment = self.patterns(nodes), [title(nodes)]
        if not isinstance(value, nn.Module):
            yield from self._bare(nodes, comment)
            return
        if self._starts_itself(nodes, path):
            comment.append('Its own init_weights() says how it starts.')
            yield Suggestion(comment, path, [_OWN])
            return
        items = by_layers(value)
        if items:
            yield Suggestion(comment, path, items)
        for name in bare_parameters(value):
            below = self.below(nodes, name)
            yield from self._bare(below, [title(below)])

    def _left(
        self, nodes: List[Node], written: Set[str]
    ) -> Iterable[List[Node]]:
        """Parameters of layers that are written in part only."""
        left: Dict[str, List[Node]] = {}
        for node in nodes:
            names = self._names([node])
            for name in sorted(names - written) if names & written else ():
                part = self.tree.index[name]
                if isinstance(part.value, nn.Parameter):
                    key = name[len(node.path) :]
                    left.setdefault(key, []).append(part)
        return left.values()

    def _bare(
        self, nodes: List[Node], comment: List[str]
    ) -> Iterator[Suggestion]:
        """Rules for bare parameters, one for each value that they have."""
        self.values.restore()
        groups: Dict[str, Tuple[List[str], InitCfg, List[Node]]] = {}
        for node in nodes:
            said, start = comment, by_value(node.value)
            if start['type'] == 'Constant':
                said = [*comment, 'The value that it was built with.']
            elif node.path.rpartition('.')[2] == 'bias':
                start = dict(type='Constant', val=0.0)
            group = groups.setdefault(repr((said, start)), (said, start, []))
            group[2].append(node)
        for said, start, members in groups.values():
            yield Suggestion(said, self.patterns(members), [start])

    def as_rules(
        self, starts: Dict[str, InitCfg], groups: Groups
    ) -> List[Suggestion]:
        """A start of one place as rules for all that are alike; none where it
        is about what no rule is asked for.
        """
        found: Dict[str, Suggestion] = {}
        for path, start in starts.items():
            there = [
                (group, path[len(node.path) + 1 :])
                for group in groups
                for node in group
                if f'{path}.'.startswith(f'{node.path}.')
            ]
            if not there:
                return []
            group, name = there[0]
            rule = found.setdefault(repr(start), Suggestion([], [], [start]))
            rule.path += self.patterns(self.below(group, name))
        return list(found.values())

    def _starts_itself(self, nodes: List[Node], path: List[str]) -> bool:
        if not all(has_init_weights(node.value) for node in nodes):
            return False
        weights = {
            entry.path
            for node in nodes
            for entry in node.tensors()
            if isinstance(entry.value, nn.Parameter) and entry.value.dim() > 1
        }
        written = self._written(path, [_OWN])
        return bool(written) and weights <= written

    def _by_owner(self, nodes: List[Node]) -> Optional[Suggestion]:
        """How a module that was loaded in part has these layers start, or some
        of them.
        """
        path, comment = self.patterns(nodes), [title(nodes)]
        index, value = self.tree.index, nodes[0].value
        segments = nodes[0].path.split('.')
        for depth in range(len(segments) - 1, -1, -1):
            above = '.'.join(segments[:depth])
            owner = index[above].value
            if depth and has_own_code(owner):
                owners = self._above(nodes, len(segments) - depth)
                path_above = self.patterns(owners)
                written = self._written(path_above, [_OWN])
                if self._names(nodes) & written and written <= self._single:
                    said = (
                        f'As init_weights() of {above} has it; what was '
                        'loaded there stays as it is.'
                    )
                    comment.append(said)
                    return Suggestion(
                        comment, path_above, [_OWN], is_owners=True
                    )
            below = '.'.join(segments[depth:])
            if isinstance(value, nn.Module):
                start = by_owner(below, owner, value)
            else:
                layer = index['.'.join(segments[:-1])].value
                start = by_owner(below, owner, layer)
                (start or {}).pop('layer', None)
            if start and self._written(path, [start]):
                said = f'As the init_cfg of {above or "the model"} has it.'
                return Suggestion([*comment, said], path, [start])
        return None

    def patterns(self, nodes: List[Node]) -> List[str]:
        """Patterns that name some parts and nothing else."""
        return patterns_for(self.selector, nodes)

    def _names(self, nodes: List[Node]) -> Set[str]:
        return {entry.path for node in nodes for entry in node.tensors()}

    def _written(self, path: List[str], init_cfg: List[InitCfg]) -> Set[str]:
        """Names of what a rule writes, tried out; none if it cannot."""
        rule = dict(path=path, init_cfg=init_cfg)
        key = repr(rule)
        if key not in self._known:
            self._known[key] = self.values.write([rule]) or set()
        return self._known[key]

    def below(self, nodes: List[Node], name: str) -> List[Node]:
        """What is called so in each of some parts."""
        return [
            self.tree.index[f'{node.path}.{name}' if name else node.path]
            for node in nodes
        ]

    def _above(self, nodes: List[Node], steps: int) -> List[Node]:
        paths = [node.path.rsplit('.', steps)[0] for node in nodes]
        owners = [self.tree.first(self.tree.index[path]) for path in paths]
        unique = {owner.number: owner for owner in owners}
        return [unique[number] for number in sorted(unique)]


def _is_single(value: Any) -> bool:
    """Whether it is a layer of its own among loaded ones, or a part of one."""
    return not isinstance(value, nn.Module) or not list(value.children())
