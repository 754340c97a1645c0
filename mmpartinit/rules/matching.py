"""Which modules and parameters of a model each rule acts on."""

from collections import Counter
from dataclasses import dataclass, field
from typing import (
    Collection,
    Dict,
    Iterator,
    List,
    Optional,
    Sequence,
    Set,
    Tuple,
    Union,
)

import torch.nn as nn

from ..errors import Collector, RuleError, nearest, some
from ..model.tree import Entry, ModelTree, Node
from .hints import no_match
from .init_cfg import InitItem
from .patterns import filled_in, parse_pattern, stand_for
from .rule import Rule
from .selection import Selector


class BareParameter(nn.Module):
    """Stands for a bare parameter, as a module whose ``weight`` it is."""

    def __init__(self, parameter: nn.Parameter) -> None:
        super().__init__()
        self.weight = parameter


@dataclass(eq=False)
class Match:
    """A module or parameter that a rule acts on.

    Attributes:
        rule (Rule): The rule.
        path (str): Path of the module or parameter.
        value (nn.Module | nn.Parameter): The thing itself.
        n (int): How many earlier rules act on the same path.
        new (list[Entry]): State-dict entries under it that may be written.
        kept (list[Entry]): Those that must stay as they are.
        source (str, optional): Where the rule copies, the path to copy from.
        sources (list[Entry]): What lies at and under that.
    """

    rule: Rule
    path: str
    value: Union[nn.Module, nn.Parameter]
    n: int
    new: List[Entry]
    kept: List[Entry]
    source: Optional[str] = None
    sources: List[Entry] = field(default_factory=list)

    def __str__(self) -> str:
        return f'{self.rule} at {self.path or "the model"}'

    @property
    def target(self) -> nn.Module:
        """What initializers are called with.

        MMEngine's write a module's ``weight``; a bare parameter is given to
        them as the ``weight`` of a module that has nothing else.
        """
        if isinstance(self.value, nn.Module):
            return self.value
        return BareParameter(self.value)

    @property
    def is_read(self) -> bool:
        """Whether an initializer may read what it holds."""
        return any(item.reads for item in self.rule.init_cfg)

    @property
    def copies(self) -> Dict[str, Entry]:
        """The tensors to copy, by the names of the new ones to write; those
        that are one with their source are not to be written.
        """
        return {
            entry.path: source
            for entry, source in self._pairs()
            if source is not None and source.value is not entry.value
        }

    @property
    def left(self) -> List[str]:
        """Names of the new tensors of which the source has none."""
        return [e.path for e, source in self._pairs() if source is None]

    def _pairs(self) -> Iterator[Tuple[Entry, Optional[Entry]]]:
        """The new tensors, and what the source has under their names."""
        sources = {_below(e.path, self.source): e for e in self.sources}
        for entry in self.new:
            yield entry, sources.get(_below(entry.path, self.path))

    def known_writes(self, item: InitItem) -> Set[str]:
        """Names of what an initializer writes under it, those included that
        have to be kept; none where only running it tells.
        """
        if not item.writes:
            return set()
        known = {
            id(getattr(layer, key, None))
            for layer in item.layers_in(self.target)
            for key in item.writes
        }
        under = [*self.new, *self.kept]
        return {entry.path for entry in under if id(entry.value) in known}

    def expected(self) -> List[Set[str]]:
        """For each initializer, or the copy, names of the new tensors that it
        writes, or may write where only running it tells (``Apply``,
        ``InitWeights``, ``Pretrained``, ``override`` and users' own).
        """
        if self.rule.copy_from is not None:
            return [set(self.copies)]
        new = {entry.path for entry in self.new}
        return [
            new & self.known_writes(item) if item.writes else new
            for item in self.rule.init_cfg
        ]

    def would_write(self) -> Set[str]:
        """Names of all new tensors that the rule writes, or may write."""
        return set().union(*self.expected())


def loaded_names(
    tree: ModelTree, said: Collection[str]
) -> Tuple[Set[str], List[str]]:
    """What a user knows to be loaded: state-dict names, or paths as in rules.

    Gives the names of the tensors, and the entries that fit nothing.

    Raises:
        RuleError: If there are entries, and none of them fits.
    """
    found = {entry.path for entry in tree.entries}.intersection(said)
    selector = Selector(tree)
    strange: List[str] = []
    for path in sorted(set(said) - found):
        try:
            nodes = selector.select(parse_pattern(path))
        except RuleError:
            nodes = []  # a name in a file may hold any letters
        found.update(e.path for node in nodes for e in node.tensors())
        strange += [] if nodes else [path]
    if strange and not found:
        name = strange[0]
        near = nearest(name, list(tree.index)[:5000])
        raise RuleError.of(
            'loaded',
            f'`loaded` names nothing of the model: {some(strange, 3)}{near}; '
            "write names of its state dict, without a wrapper's `module.`, or "
            'paths as in rules',
        )
    return found, strange


def named_tensors(
    tree: ModelTree, paths: Sequence[str], where: str
) -> Set[str]:
    """Names of all tensors that lie at and under some paths, as in rules.

    Raises:
        RuleError: If a path matches nothing; its sentence starts with
            ``where``.
    """
    selector, wrong = Selector(tree), Collector()
    found: Set[str] = set()
    for path in paths:
        nodes = selector.select(parse_pattern(path))
        with wrong.gather(where=where):
            if not nodes:
                raise no_match(path, selector)
        found.update(e.path for node in nodes for e in node.tensors())
    wrong.check()
    return found


def match_rules(
    tree: ModelTree,
    rules: Sequence[Rule],
    loaded: Collection[str],
    wrong: Collector,
) -> List[Match]:
    """Find what the rules act on; ``loaded`` has every name of each loaded
    tensor.

    The matches are in the order of the rules, and within a rule in that of
    the model. A path that matches nothing although it has to is wrong.
    """
    selector = Selector(tree)
    matches: List[Match] = []
    counts: Counter = Counter()
    for rule in rules:
        found = []
        for path, alternatives in zip(rule.paths, rule.alternatives):
            nodes = selector.select(alternatives)
            found += nodes
            with wrong.gather(rule):
                if not nodes and not rule.optional:
                    # Looking for near names takes long in a big model.
                    hint = len(wrong.findings) < 20
                    more = ' (optional=True would allow that)'
                    raise no_match(path, selector, hint, more)
        first = len(matches)
        outermost = tree.outermost(found)
        sources: Dict[int, str] = {}
        with wrong.gather(rule):
            sources = _sources(rule, outermost, selector)
        for node in outermost:
            stay = () if rule.overwrite else loaded
            entries = node.tensors()
            new = [entry for entry in entries if entry.path not in stay]
            kept = [entry for entry in entries if entry.path in stay]
            n = counts[node.path]
            counts[node.path] += 1
            match = Match(rule, node.path, node.value, n, new, kept)
            match.source = sources.get(node.number)
            if match.source is not None:
                match.sources = tree.index[match.source].tensors()
            matches.append(match)
        if loaded and tree.overlapping:
            with wrong.gather(rule):
                _check_overlaps(tree, matches[first:], loaded)
    return matches


def _sources(
    rule: Rule, nodes: Sequence[Node], selector: Selector
) -> Dict[int, str]:
    """The paths that a rule copies from, by the numbers of the nodes that it
    acts on.

    Raises:
        RuleError: If there is nothing at one of them.
    """
    source, tree = rule.copy_from, selector.tree
    if source is None:
        return {}
    if '*' not in source:
        if source not in tree.index:
            raise no_match(source, selector)
        return {node.number: source for node in nodes}
    acting = {node.number: node for node in nodes}
    found: Dict[int, str] = {}
    for pattern in (p for patterns in rule.alternatives for p in patterns):
        for number, path in selector.named(pattern):
            if number in acting and number not in found:
                found[number] = filled_in(source, stand_for(pattern, path))
    lacking = [n for n, path in found.items() if path not in tree.index]
    if lacking:
        others = len(lacking) - 1
        more = f' (likewise at {others} more)' if others else ''
        error = no_match(found[lacking[0]], selector, more=more)
        at = acting[lacking[0]].path
        raise error.about(where=f'at {at}, to copy from')
    return found


def _check_overlaps(
    tree: ModelTree, matches: Sequence[Match], loaded: Collection[str]
) -> None:
    """See to it that a rule writes to no loaded tensor by another one."""
    new = {entry.path for match in matches for entry in match.new}
    for name, others in tree.overlapping.items():
        kept = [
            other for other in others if other in loaded and other not in new
        ]
        if name in new and kept:
            raise RuleError.of(
                'not-writable',
                f'{name} lies in the memory of {kept[0]}, which must stay as '
                'it is; leave it out of the path',
                [name],
            )


def _below(name: str, path: Optional[str]) -> str:
    """A name as seen from a path that it is at or under."""
    return name[len(path) + 1 :] if path else name
