"""Who wrote what: one log, of which all that is said of it is a function."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Dict, Iterable, List, Sequence, Set

import torch.nn as nn

from ..errors import Finding, some
from ..model.tensors import Statistics
from ..model.tree import ModelTree
from ..rules.matching import Match
from ..rules.rule import Rule


@dataclass
class WriteLog:
    """What was written.

    Attributes:
        tree (ModelTree): The model.
        matches (list[Match]): What was acted on, in order.
        wrote (list[list[set[str]]]): For each match and each initializer of
            its rule, the names of what it wrote, those included that had to
            be kept.
        statistics (dict[str, Statistics]): Of each written tensor.
        differed (list[str]): Those whose values were not the same on all
            ranks.
    """

    tree: ModelTree
    matches: List[Match] = field(default_factory=list)
    wrote: List[List[Set[str]]] = field(default_factory=list)
    statistics: Dict[str, Statistics] = field(default_factory=dict)
    differed: List[str] = field(default_factory=list)

    @cached_property
    def written(self) -> Dict[str, List[int]]:
        """Names of the new tensors that were written, under each of their
        names, and the indices of the rules that wrote them, in order.
        """
        written: Dict[str, List[int]] = {}
        for match, wrote in zip(self.matches, self.wrote):
            for name in self.tree.with_sharing(new_names(match, wrote)):
                rules = written.setdefault(name, [])
                if rules[-1:] != [match.rule.index]:
                    rules.append(match.rule.index)
        return written

    def problems(self) -> List[Finding]:
        """What is wrong with the outcome, and what had no effect."""
        return [*self._without_effect(), *self._not_finite()]

    def _without_effect(self) -> List[Finding]:
        """Initializers of which only running them told that they wrote
        nothing. Where another of the list wrote something, it is a warning.
        """
        wrote: Dict[Rule, List[Set[str]]] = {}
        given: Dict[Rule, int] = {}
        # Batch norm fills in its counter itself where a checkpoint lacks it,
        # so that writing that alone is no effect.
        counters = {e.path for e in self.tree.entries if e.is_counter}
        for match, sets in zip(self.matches, self.wrote):
            so_far = wrote.setdefault(match.rule, [set() for _ in sets])
            for known, more in zip(so_far, sets):
                known |= more - counters
            given[match.rule] = given.get(match.rule, 0) + len(match.new)
        findings = []
        for rule, sets in wrote.items():
            for position, names in enumerate(sets):
                item = rule.init_cfg[position] if rule.init_cfg else None
                if names or (item and item.writes and any(sets)):
                    continue
                kind, verb = (
                    ('error', 'nothing-reached'),
                    'initialises nothing',
                )
                if any(sets):
                    kind, verb = ('warning', 'unused-item'), 'has no effect'
                text = (
                    f'{rule}: {item or "the copy"} {verb}: it wrote none of '
                    f'the {given[rule]} new tensors that it was given'
                )
                about = (rule.index, rule.path)
                findings.append(Finding(*kind, text, [], *about))
        return findings

    def _not_finite(self) -> List[Finding]:
        rules = {match.rule.index: match.rule for match in self.matches}
        bad: Dict[Rule, List[str]] = {}
        for entry in self.tree.entries:
            known = self.statistics.get(entry.path)
            # Not buffers: masks hold infinities on purpose.
            if known and not known.is_finite:
                if isinstance(entry.value, nn.Parameter):
                    rule = rules[self.written[entry.path][-1]]
                    bad.setdefault(rule, []).append(entry.path)
        return [
            Finding(
                'error',
                'not-finite',
                f'{rule} wrote values that are not finite: {some(names, 5)}',
                names,
                rule.index,
                rule.path,
            )
            for rule, names in bad.items()
        ]


def new_names(match: Match, wrote: Sequence[Iterable[str]]) -> Set[str]:
    """Names of the new tensors of a match among those that were written."""
    return {e.path for e in match.new}.intersection(set().union(*wrote))
