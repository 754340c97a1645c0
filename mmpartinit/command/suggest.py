"""Rules for what no rule covers yet: new modules, by pattern and by layer."""

from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Optional, Set, Tuple

import torch.nn as nn

from ..errors import RuleError
from ..initializers.layers import has_init_weights
from ..model.tree import ModelTree
from ..plan import InitPlan, init_modules, make_plan
from ..rules.rule import Rule, read_rules
from .generalize import outermost_new, patterns_for, skeleton
from .look import Look, LookError
from .planning import config_rules
from .starts import (
    InitCfg,
    bare_parameters,
    by_layers,
    by_owner,
    by_value,
    has_own_code,
    layers_of,
)

_OWN: InitCfg = dict(type='InitWeights')


@dataclass
class Suggestion:
    """A rule to paste.

    Attributes:
        path (list[str]): Its patterns.
        init_cfg (list[dict]): Its init_cfg.
        comment (list[str]): What it is for.
        last (list[str]): Patterns of the last layer, where it has several.
    """

    path: List[str]
    init_cfg: List[InitCfg]
    comment: List[str]
    last: List[str] = field(default_factory=list)

    @property
    def rule(self) -> Dict[str, Any]:
        """The rule as the hook takes it."""
        return dict(path=_single(self.path), init_cfg=_single(self.init_cfg))


class Suggester:
    """Finds rules for the new parts of a model.

    It tries initializers out on the model, which is built to be looked at
    only.
    """

    def __init__(self, seen: Look) -> None:
        self.seen = seen
        self.rules: List[Rule] = config_rules(seen)[0]
        plan = self._plan(self.rules)
        self.tree: ModelTree = plan.tree
        self.names: Set[str] = _uncovered(plan)
        self.problems: List[str] = plan.problems
        self.buffers: List[str] = []  # new ones, which no rule can write

    def suggest(self) -> List[Suggestion]:
        """Rules that cover all new parameters that no rule covers.

        Raises:
            LookError: If there are new parameters that no rule can cover.
        """
        found: List[Suggestion] = []
        for numbers in self._groups():
            for suggestion in self._for_group(numbers):
                if suggestion.rule not in [known.rule for known in found]:
                    found.append(suggestion)
        self._check(found)
        return found

    def _plan(self, rules: List[Rule]) -> InitPlan:
        return make_plan(self.seen.model, rules, self.seen.loaded, files=False)

    def _groups(self) -> List[List[int]]:
        """New modules and bare parameters, those that are alike together."""
        groups: Dict[Tuple[Any, ...], List[int]] = {}
        for number in outermost_new(self.tree, self.names):
            node = self.tree.nodes[number]
            kinds: Tuple[Any, ...] = (type(node),)
            if isinstance(node, nn.Module):
                if not any(True for _ in node.parameters()):
                    continue
                kinds = tuple((n, type(m)) for n, m in node.named_modules())
            key = (skeleton(self.tree.paths[number]), kinds)
            groups.setdefault(key, []).append(number)
        return list(groups.values())

    def _for_group(self, numbers: List[int]) -> Iterator[Suggestion]:
        node = self.tree.nodes[numbers[0]]
        path = patterns_for(self.tree, numbers)
        comment = [self._title(numbers)]
        if not isinstance(node, nn.Module) or not list(node.children()):
            # A layer of its own among loaded ones, or a part of one.
            known = self._by_owner(numbers, path, comment)
            if known is not None:
                yield known
                return
        if not isinstance(node, nn.Module):
            yield from self._bare(numbers, comment)
            return
        layers = [name for kind, name, _ in layers_of(node) if kind != 'norm']
        last = []
        if len(layers) > 1:
            last = patterns_for(self.tree, self._below(numbers, layers[-1]))
        if self._starts_itself(numbers, path):
            comment.append('Its own init_weights() says how it starts.')
            yield Suggestion(path, [_OWN], comment, last)
            return
        items = by_layers(node)
        if items:
            yield Suggestion(path, items, comment, last)
        for bare in bare_parameters(node):
            below = self._below(numbers, bare.name)
            yield from self._bare(below, [self._title(below)])

    def _bare(
        self, numbers: List[int], comment: List[str]
    ) -> Iterator[Suggestion]:
        """Rules for bare parameters, one for each value that they have."""
        groups: Dict[str, List[int]] = {}
        starts: Dict[str, InitCfg] = {}
        for number in numbers:
            start = by_value(self.tree.nodes[number])
            if start['type'] != 'Constant':
                if self.tree.name(number) == 'bias':
                    start = dict(type='Constant', val=0.0)
            starts[repr(start)] = start
            groups.setdefault(repr(start), []).append(number)
        for key, members in groups.items():
            said = comment
            if starts[key]['type'] == 'Constant':
                said = [*comment, 'The value that it was built with.']
            path = patterns_for(self.tree, members)
            yield Suggestion(path, [starts[key]], said)

    def _starts_itself(self, numbers: List[int], path: List[str]) -> bool:
        nodes = [self.tree.nodes[number] for number in numbers]
        if not all(map(has_init_weights, nodes)):
            return False
        weights = {
            slot.name
            for number in numbers
            for slot in self.tree.slots_under(number)
            if isinstance(slot.tensor, nn.Parameter) and slot.tensor.dim() > 1
        }
        written = self._written(path, [_OWN])
        return bool(written) and weights <= written

    def _by_owner(
        self, numbers: List[int], path: List[str], comment: List[str]
    ) -> Optional[Suggestion]:
        """How a module that was loaded in part has this layer start."""
        node, name = self.tree.nodes[numbers[0]], self.tree.paths[numbers[0]]
        segments = name.split('.')
        for depth in range(len(segments) - 1, -1, -1):
            above = '.'.join(segments[:depth])
            owner = self.tree.nodes[self.tree.index[above]]
            if depth and has_own_code(owner):
                owners = self._above(numbers, len(segments) - depth)
                path_above = patterns_for(self.tree, owners)
                if self._names(numbers) & self._written(path_above, [_OWN]):
                    said = (
                        f'As init_weights() of {above} has it; what was '
                        'loaded there stays as it is.'
                    )
                    return Suggestion(path_above, [_OWN], [*comment, said])
            below = '.'.join(segments[depth:])
            if isinstance(node, nn.Module):
                start = by_owner(below, owner, node)
            else:
                layer = self.tree.nodes[
                    self.tree.index['.'.join(segments[:-1])]
                ]
                start = by_owner(below, owner, layer)
                (start or {}).pop('layer', None)
            if start and self._written(path, [start]):
                said = f'As the init_cfg of {above or "the model"} has it.'
                return Suggestion(path, [start], [*comment, said])
        return None

    def _names(self, numbers: List[int]) -> Set[str]:
        return {s.name for n in numbers for s in self.tree.slots_under(n)}

    def _written(self, path: List[str], init_cfg: List[InitCfg]) -> Set[str]:
        """Names of what a rule writes, tried out; none if it cannot."""
        try:
            report = init_modules(
                self.seen.model,
                [dict(path=path, init_cfg=init_cfg)],
                loaded=self.seen.loaded,
            )
        except RuleError:
            return set()
        return {t.name for t in report.tensors if t.origin == 'rule'}

    def _below(self, numbers: List[int], name: str) -> List[int]:
        paths = [self.tree.paths[number] for number in numbers]
        return [
            self.tree.index[f'{path}.{name}' if name else path]
            for path in paths
        ]

    def _above(self, numbers: List[int], steps: int) -> List[int]:
        paths = [self.tree.paths[n].rsplit('.', steps)[0] for n in numbers]
        owners = [self.tree.index[path] for path in dict.fromkeys(paths)]
        return sorted({self.tree.first(number) for number in owners})

    def _title(self, numbers: List[int]) -> str:
        node = self.tree.nodes[numbers[0]]
        kind = (
            type(node).__name__
            if isinstance(node, nn.Module)
            else f'Parameter of shape {tuple(node.shape)}'
        )
        times = f', {len(numbers)} times' if len(numbers) > 1 else ''
        return f'{kind}{times}.'

    def _check(self, suggestions: List[Suggestion]) -> None:
        """See that the plan with these rules finds nothing uncovered."""
        modules = [suggestion.rule for suggestion in suggestions]
        rules, wrong = read_rules(modules, 1 + _last_index(self.rules))
        plan = self._plan([*self.rules, *rules])
        wrong += [p for p in plan.problems if p not in self.problems]
        buffers = {
            slot.name
            for slot in plan.tree.slots
            if not isinstance(slot.tensor, nn.Parameter)
        }
        left = _uncovered(plan)
        self.buffers = sorted(left & buffers)
        left -= buffers
        if wrong or left:
            raise LookError(
                'no rules could be found for '
                f'{", ".join(sorted(left)) or "; ".join(wrong)}'
            )


def _uncovered(plan: InitPlan) -> Set[str]:
    return {
        name
        for finding in plan.findings
        if finding.code == 'uncovered'
        for name in finding.names
    }


def _last_index(rules: List[Rule]) -> int:
    return max((rule.index for rule in rules), default=-1)


def _single(values: List[Any]) -> Any:
    return values[0] if len(values) == 1 else values
