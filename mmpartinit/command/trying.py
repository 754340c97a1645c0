"""Starts of new blocks, tried on the network before they are suggested."""

import math
from dataclasses import dataclass
from typing import (
    Any,
    Collection,
    Dict,
    Iterable,
    List,
    Optional,
    Sequence,
    Set,
)

from ..errors import RuleError, told
from ..functions import init_modules
from ..model.tree import Node
from ..report.report import InitReport
from ..trial.learning import learn
from ..trial.network import Network, NotRun
from ..trial.places import Place
from ..trial.trial import Outcome, Trial
from .look import Look

Rules = Sequence[Dict[str, Any]]


class Values:
    """What the new tensors of a model were built with.

    Args:
        seen (Look): The model.
        kept (Collection[str]): Names of what is not new.

    Attributes:
        wrote (list[set[str]]): Names of what each rule wrote that was tried
            last.
    """

    def __init__(self, seen: Look, kept: Collection[str]) -> None:
        self.seen, self.kept = seen, set(kept)
        self.wrote: List[Set[str]] = []
        self._built = [
            (entry.value, entry.value.detach().clone())
            for entry in seen.whole.tree.entries
            if entry.path not in self.kept
        ]

    def write(self, rules: Rules) -> Optional[Set[str]]:
        """Write what rules give to the model as it was built.

        Returns:
            set[str] | None: Names of what was written; None if the rules
            cannot be carried out.
        """
        try:
            report = self._report(rules)
        except RuleError:
            self.restore()
            return None
        return {t.name for t in report.tensors if t.origin == 'rule'}

    def written_by(self, rules: Rules) -> List[Set[str]]:
        """Names of what each of some rules writes by itself, tried together:
        a trial compares the whole model with what it was. None for those that
        cannot be carried out.
        """
        written: List[Set[str]] = [set() for _ in rules]
        left = list(range(len(rules)))
        while left:
            try:
                self._report([rules[number] for number in left])
            except RuleError as error:
                wrong = {found.rule for found in error.findings}
                if None in wrong:  # it may be any of them
                    alone = [self.write([rules[n]]) or set() for n in left]
                    for number, names in zip(left, alone):
                        written[number] = names
                    break
                left = [n for i, n in enumerate(left) if i not in wrong]
            else:
                for number, names in zip(left, self.wrote):
                    written[number] = names
                break
        self.restore()
        return written

    def _report(self, rules: Rules) -> InitReport:
        self.restore()
        report = init_modules(self.seen.model, rules, loaded=self.kept)
        self.wrote = [set(record.wrote) for record in report.rules]
        return report

    def restore(self) -> None:
        """Have the model as it was built."""
        for tensor, value in self._built:
            tensor.data.copy_(value)


@dataclass
class Tried:
    """The trial of a model's new blocks.

    Attributes:
        trial (Trial, optional): The trial, where the network could be run.
        why (str): Why it could not.
    """

    trial: Optional[Trial] = None
    why: str = ''

    def parts(self, nodes: Sequence[Node]) -> List[Node]:
        """Parts of the model, or what is in them where they are not called."""
        if self.trial is None:
            return list(nodes)
        return list(self.trial.those_called(nodes))

    def places(self, nodes: Iterable[Node]) -> List[Place]:
        """The places at which some parts, or what is in them, stand."""
        if self.trial is None:
            return []
        numbers = {node.number for node in nodes}
        return [
            place
            for place in self.trial.places
            if any(
                part.number <= number < part.end
                for part in place.nodes
                for number in numbers
            )
        ]

    def outcome(
        self, places: Sequence[Place], tolerance: Optional[float] = None
    ) -> Outcome:
        """What comes of the values that the places hold; how far later parts
        may change by that depends on the places, if it is not given.
        """
        assert self.trial is not None
        try:
            outcome = self.trial.measure(places)
            if tolerance is not None:
                outcome.allowed = tolerance
            if outcome.is_harmless:
                learn(self.trial, places, outcome)
        except Exception as error:  # anybody's code
            return Outcome(math.inf, 0.0, failed=told(error))
        return outcome


def try_out(
    seen: Look,
    nodes: Sequence[Node],
    kept: Collection[str],
    network: Optional[Network] = None,
) -> Tried:
    """Get ready to try starts of a model's new parts, on a network that can be
    run or on made-up input. Where there is nothing to try and no network
    given, nothing is run.
    """
    if not nodes and network is None:
        return Tried()
    try:
        network = network or Network(seen.model, seen.cfg)
        tree, gone = seen.whole.tree, _gone(seen)
        return Tried(Trial(network, tree, nodes, set(kept), gone))
    except NotRun as error:
        return Tried(why=str(error))
    except Exception as error:  # anybody's code, called in ways of our own
        return Tried(why=told(error))


def _gone(seen: Look) -> Set[str]:
    """Names of what checkpoints have and the model has in another shape, or
    not at all; where it would be in the model.
    """
    found: Set[str] = set()
    for checkpoint in seen.origins.checkpoints:
        if checkpoint.used:
            start = f'{checkpoint.path}.' if checkpoint.path else ''
            found.update(f'{start}{name}' for name in checkpoint.unused)
            found.update(name for name, _, _ in checkpoint.shapes)
    return found


def what_came(outcome: Outcome) -> str:
    """A harmless outcome, in words."""
    count = len(outcome.learning)
    learning = f'all {count} parameters learn'
    if count == 1:
        learning = 'its parameter learns'
    if not count:
        learning = 'none of its parameters gets a gradient'
    return (
        f'Tried: later parts change by {percent(outcome.drift)}, and '
        f'{learning}.'
    )


def percent(share: float) -> str:
    """A share in per cent, with two digits that say something."""
    if share < 5e-6:
        return '0 %'
    if math.isinf(share):
        return 'not finite'
    return f'{100 * share:.2g} %' if share < 0.1 else f'{100 * share:.0f} %'
