"""Who wrote what: one log, of which all that is said of it is a function."""

from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import Dict, Iterable, List, Sequence, Set, Tuple

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
        matches (list[Match]): What is acted on, in order.
        wrote (list[list[set[str]]]): For each match so far and each
            initializer of its rule, the names of what it wrote, those
            included that had to be kept.
        statistics (dict[str, Statistics]): Of each written tensor.
        differed (list[str]): Those whose values were not the same on all
            ranks.
        notes (list[tuple[Rule, str]]): What initializers said that they did.
    """

    tree: ModelTree
    matches: List[Match]
    wrote: List[List[Set[str]]] = field(default_factory=list)
    statistics: Dict[str, Statistics] = field(default_factory=dict)
    differed: List[str] = field(default_factory=list)
    notes: List[Tuple[Rule, str]] = field(default_factory=list)

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
        # Batch norm fills in its counter itself where a checkpoint lacks it,
        # so that writing that alone is no effect.
        counters = {e.path for e in self.tree.entries if e.is_counter}
        findings = []
        pairs = zip(self.matches, self.wrote)
        for rule, members in groupby(pairs, lambda pair: pair[0].rule):
            matches, wrote = zip(*members)
            sets = [set().union(*names) - counters for names in zip(*wrote)]
            given = sum(len(match.new) for match in matches)
            for item, names in zip(rule.init_cfg or [None], sets):
                if names or (item and item.writes and any(sets)):
                    continue
                text = (
                    f'it wrote none of the {given} new tensors that it was '
                    'given'
                )
                if any(sets):
                    text = f': {item} has no effect: {text}'
                    found = rule.finding('warning', 'unused-item', text)
                else:
                    what = item or 'the copy'
                    text = f': {what} initialises nothing: {text}'
                    found = rule.finding('error', 'nothing-reached', text)
                findings.append(found)
        return findings

    def _not_finite(self) -> List[Finding]:
        rules = {match.rule.index: match.rule for match in self.matches}
        bad: Dict[Rule, List[str]] = {}
        for entry in self.tree.entries:
            known = self.statistics.get(entry.path)
            # Not buffers: masks hold infinities on purpose.
            if known and not known.is_finite and entry.is_parameter:
                rule = rules[self.written[entry.path][-1]]
                bad.setdefault(rule, []).append(entry.path)
        return [
            rule.finding(
                'error',
                'not-finite',
                f' wrote values that are not finite: {some(names, 5)}',
                names,
            )
            for rule, names in bad.items()
        ]


def new_names(match: Match, wrote: Sequence[Iterable[str]]) -> Set[str]:
    """Names of the new tensors of a match among those that were written."""
    return {e.path for e in match.new}.intersection(set().union(*wrote))
