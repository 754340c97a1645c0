"""A plan carried out: :func:`write_matches` alone writes to a model.

Match by match, each from its own seed, the same on all ranks.
"""

from collections import Counter
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Dict, List, Optional, Sequence, Set, Tuple

import torch
import torch.nn as nn
from torch import Tensor

from ..errors import RuleError, some
from ..model.tensors import statistics
from ..model.tree import Slot
from ..processes.masters import write_masters
from ..processes.ranks import in_line, on_all_ranks
from ..processes.shards import Shards
from ..rules.matching import Match
from ..rules.rule import Rule
from .memory import write_protected
from .seeding import (
    cuda_devices,
    module_seed,
    random_state_kept,
    seed_everything,
)
from .watch import WriteWatch


@dataclass
class Outcome:
    """What was written.

    Attributes:
        written (dict[int, list[int]]): ``id()`` of each tensor that was
            written, and the indices of the rules that wrote it, in order.
        statistics (dict[int, list]): Mean and standard deviation of each;
            None where there are none to give.
        differed (dict[int, None]): ``id()`` of those whose values were not
            the same on all ranks.
    """

    written: Dict[int, List[int]] = field(default_factory=dict)
    statistics: Dict[int, List[Optional[float]]] = field(default_factory=dict)
    differed: Dict[int, None] = field(default_factory=dict)

    def add(self, tensor: Tensor, rules: Sequence[int]) -> None:
        """Note that rules wrote a tensor, one after the other."""
        before = self.written.setdefault(id(tensor), [])
        before += rules[before[-1:] == list(rules[:1]) :]


def write_matches(
    matches: Sequence[Match], slots: Sequence[Slot], seed: int, shards: Shards
) -> Outcome:
    """Carry out a plan: write every match that has something new, in order.

    The global random state is left as it was, gradients are off. Every rank
    takes part, and all end with the values of rank 0.

    Raises:
        RuleError: If an initializer fails, wrote nothing, replaced what it
            should write, or wrote something else, and if parameters are not
            finite afterwards; on this rank or on another one.
    """
    writer = _Writer(slots, seed, shards)
    acting = [match for match in matches if match.new]
    with random_state_kept(writer.devices), torch.no_grad():
        # One group, unless parameters lie in parts.
        for units, members in groupby(acting, writer.units_of):
            writer.write(units, list(members))
    with on_all_ranks():
        problems = writer.problems()
        if problems:
            raise RuleError.of(problems)
    write_masters(
        slot.tensor for slot in slots if id(slot.tensor) in writer.out.written
    )
    return writer.out


class _Writer:
    """Writes matches, group by group."""

    def __init__(
        self, slots: Sequence[Slot], seed: int, shards: Shards
    ) -> None:
        self.out = Outcome()
        self.devices = cuda_devices(slot.tensor for slot in slots)
        if shards and torch.cuda.is_initialized():
            # Parts that lie on the CPU are gathered there.
            self.devices = sorted({*self.devices, torch.cuda.current_device()})
        self._slots, self._seed, self._shards = slots, seed, shards
        self._number = {id(slot.tensor): i for i, slot in enumerate(slots)}
        self._watch = WriteWatch(slot.tensor for slot in slots)
        # What the initializers of each rule wrote, of new tensors and kept.
        self._touched: Dict[Rule, List[Set[int]]] = {}
        self._given: Counter = Counter()
        self._infinite: Dict[int, int] = {}

    def units_of(self, match: Match) -> Tuple[Any, ...]:
        """What has to be gathered to write a match."""
        concerned = [*match.new, *match.kept, *match.sources]
        return self._shards.units_of(slot.tensor for slot in concerned)

    def write(self, units: Sequence[Any], matches: Sequence[Match]) -> None:
        """Write some matches, the same ones on all ranks at a time."""
        with self._shards.gathered(units) as gathered:
            self._watch.follow(gathered)
            error = None
            written: Dict[int, List[int]] = {}
            try:
                for match in matches:
                    self._write_match(match, written)
            except RuleError as caught:
                error = caught
            tensors = [slot.tensor for slot in self._slots]
            written, differed = in_line(error, written, tensors)
            for number in differed:
                self.out.differed[id(tensors[number])] = None
            for number, rules in written.items():
                self._look_at(tensors[number], rules)
        self._watch.follow(gathered)

    def _write_match(
        self, match: Match, written: Dict[int, List[int]]
    ) -> None:
        number = module_seed(self._seed, match.path, match.draw)
        seed_everything(number, self.devices)
        found = write_protected(match, self._watch, self._slots)
        touched = self._touched.setdefault(match.rule, [set() for _ in found])
        for so_far, tensors in zip(touched, found):
            so_far |= tensors
        self._given[match.rule] += len(match.new)
        new = {id(slot.tensor) for slot in match.new}
        for tensor in new.intersection(set().union(*found)):
            rules = written.setdefault(self._number[tensor], [])
            if rules[-1:] != [match.rule.index]:
                rules.append(match.rule.index)

    def _look_at(self, tensor: Tensor, rules: List[int]) -> None:
        self.out.add(tensor, rules)
        self.out.statistics[id(tensor)], finite = statistics(tensor)
        self._infinite.pop(id(tensor), None)
        # Not buffers: masks hold infinities on purpose.
        if not finite and isinstance(tensor, nn.Parameter):
            self._infinite[id(tensor)] = rules[-1]

    def problems(self) -> List[str]:
        """What is wrong with the outcome, a sentence each."""
        # Batch norm fills these in itself where a checkpoint lacks them, so
        # that writing them alone is no effect.
        counters = {id(slot.tensor) for slot in self._slots if slot.is_counter}
        problems = [
            f'{rule}: {item} initialises nothing: it wrote none of the '
            f'{self._given[rule]} new tensors that it was given'
            for rule, touched in self._touched.items()
            for item, wrote in zip(rule.init_cfg or ('the copy',), touched)
            if not wrote - counters
        ]
        rules = {rule.index: rule for rule in self._touched}
        bad: Dict[Rule, List[str]] = {}
        for tensor, index in self._infinite.items():
            name = self._slots[self._number[tensor]].name
            bad.setdefault(rules[index], []).append(name)
        return problems + [
            f'{rule} wrote values that are not finite: {some(names, 5)}'
            for rule, names in bad.items()
        ]
