"""Rules for what no rule covers yet: new modules, by pattern and by layer."""

from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Optional, Set, Tuple

import torch.nn as nn

from ..errors import Collector, RuleError
from ..functions import init_modules
from ..initializers.layers import has_init_weights
from ..model.tree import ModelTree, Node
from ..plan import InitPlan, make_plan
from ..rules.rule import Rule, read_rules
from ..rules.selection import Selector
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
        self.rules: List[Rule]
        self.rules, self.said = config_rules(seen, Collector())
        plan = self._plan(self.rules)
        self.tree: ModelTree = seen.whole.tree
        self.selector = Selector(self.tree)
        self.names: Set[str] = _uncovered(plan)
        self.errors = plan.errors
        self.buffers: List[str] = []  # new ones, which no rule can write

    def suggest(self) -> List[Suggestion]:
        """Rules that cover all new parameters that no rule covers.

        Raises:
            LookError: If there are new parameters that no rule can cover.
        """
        found: List[Suggestion] = []
        for nodes in self._groups():
            for suggestion in self._for_group(nodes):
                if suggestion.rule not in [known.rule for known in found]:
                    found.append(suggestion)
        self._check(found)
        return found

    def _plan(self, rules: List[Rule]) -> InitPlan:
        seen = self.seen
        return make_plan(seen.whole, rules, seen.origins, self.said, False)

    def _groups(self) -> List[List[Node]]:
        """New modules and bare parameters, those that are alike together."""
        groups: Dict[Tuple[Any, ...], List[Node]] = {}
        for node in outermost_new(self.tree, self.names):
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

    def _for_group(self, nodes: List[Node]) -> Iterator[Suggestion]:
        value = nodes[0].value
        path = self._patterns(nodes)
        comment = [self._title(nodes)]
        if not isinstance(value, nn.Module) or not list(value.children()):
            # A layer of its own among loaded ones, or a part of one.
            known = self._by_owner(nodes, path, comment)
            if known is not None:
                yield known
                return
        if not isinstance(value, nn.Module):
            yield from self._bare(nodes, comment)
            return
        layers = [name for kind, name, _ in layers_of(value) if kind != 'norm']
        last = []
        if len(layers) > 1:
            last = self._patterns(self._below(nodes, layers[-1]))
        if self._starts_itself(nodes, path):
            comment.append('Its own init_weights() says how it starts.')
            yield Suggestion(path, [_OWN], comment, last)
            return
        items = by_layers(value)
        if items:
            yield Suggestion(path, items, comment, last)
        for bare in bare_parameters(value):
            below = self._below(nodes, bare.name)
            yield from self._bare(below, [self._title(below)])

    def _bare(
        self, nodes: List[Node], comment: List[str]
    ) -> Iterator[Suggestion]:
        """Rules for bare parameters, one for each value that they have."""
        groups: Dict[str, List[Node]] = {}
        starts: Dict[str, InitCfg] = {}
        for node in nodes:
            start = by_value(node.value)
            if start['type'] != 'Constant':
                if node.path.rpartition('.')[2] == 'bias':
                    start = dict(type='Constant', val=0.0)
            starts[repr(start)] = start
            groups.setdefault(repr(start), []).append(node)
        for key, members in groups.items():
            said = comment
            if starts[key]['type'] == 'Constant':
                said = [*comment, 'The value that it was built with.']
            path = self._patterns(members)
            yield Suggestion(path, [starts[key]], said)

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

    def _by_owner(
        self, nodes: List[Node], path: List[str], comment: List[str]
    ) -> Optional[Suggestion]:
        """How a module that was loaded in part has this layer start."""
        index, value = self.tree.index, nodes[0].value
        segments = nodes[0].path.split('.')
        for depth in range(len(segments) - 1, -1, -1):
            above = '.'.join(segments[:depth])
            owner = index[above].value
            if depth and has_own_code(owner):
                owners = self._above(nodes, len(segments) - depth)
                path_above = self._patterns(owners)
                if self._names(nodes) & self._written(path_above, [_OWN]):
                    said = (
                        f'As init_weights() of {above} has it; what was '
                        'loaded there stays as it is.'
                    )
                    return Suggestion(path_above, [_OWN], [*comment, said])
            below = '.'.join(segments[depth:])
            if isinstance(value, nn.Module):
                start = by_owner(below, owner, value)
            else:
                layer = index['.'.join(segments[:-1])].value
                start = by_owner(below, owner, layer)
                (start or {}).pop('layer', None)
            if start and self._written(path, [start]):
                said = f'As the init_cfg of {above or "the model"} has it.'
                return Suggestion(path, [start], [*comment, said])
        return None

    def _patterns(self, nodes: List[Node]) -> List[str]:
        return patterns_for(self.selector, nodes)

    def _names(self, nodes: List[Node]) -> Set[str]:
        return {entry.path for node in nodes for entry in node.tensors()}

    def _written(self, path: List[str], init_cfg: List[InitCfg]) -> Set[str]:
        """Names of what a rule writes, tried out; none if it cannot."""
        try:
            report = init_modules(
                self.seen.model,
                [dict(path=path, init_cfg=init_cfg)],
                loaded={*self.seen.origins.kept, *self.said},
            )
        except RuleError:
            return set()
        return {t.name for t in report.tensors if t.origin == 'rule'}

    def _below(self, nodes: List[Node], name: str) -> List[Node]:
        return [
            self.tree.index[f'{node.path}.{name}' if name else node.path]
            for node in nodes
        ]

    def _above(self, nodes: List[Node], steps: int) -> List[Node]:
        paths = [node.path.rsplit('.', steps)[0] for node in nodes]
        owners = [self.tree.first(self.tree.index[path]) for path in paths]
        unique = {owner.number: owner for owner in owners}
        return [unique[number] for number in sorted(unique)]

    def _title(self, nodes: List[Node]) -> str:
        value = nodes[0].value
        kind = (
            type(value).__name__
            if isinstance(value, nn.Module)
            else f'Parameter of shape {tuple(value.shape)}'
        )
        times = f', {len(nodes)} times' if len(nodes) > 1 else ''
        return f'{kind}{times}.'

    def _check(self, suggestions: List[Suggestion]) -> None:
        """See that the plan with these rules finds nothing uncovered."""
        modules = [suggestion.rule for suggestion in suggestions]
        wrong = Collector()
        rules = read_rules(modules, wrong, 1 + _last_index(self.rules))
        plan = self._plan([*self.rules, *rules])
        wrong.findings += [f for f in plan.errors if f not in self.errors]
        buffers = {
            entry.path
            for entry in self.tree.entries
            if not isinstance(entry.value, nn.Parameter)
        }
        left = _uncovered(plan)
        self.buffers = sorted(left & buffers)
        left -= buffers
        if wrong.findings or left:
            messages = '; '.join(found.message for found in wrong.findings)
            raise LookError(
                'no rules could be found for '
                f'{", ".join(sorted(left)) or messages}'
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
