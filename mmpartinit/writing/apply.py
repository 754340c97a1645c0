"""A plan carried out: :func:`write_matches` alone writes to a model.

Match by match, each from its own seed, the same on all ranks.
"""

from dataclasses import replace
from itertools import groupby
from typing import Any, Dict, List, Sequence, Set, Tuple

import torch
from torch import Tensor

from ..errors import RuleError, some
from ..model.tensors import statistics
from ..model.whole import WholeModel
from ..processes.masters import write_masters
from ..processes.ranks import in_line, on_all_ranks
from ..rules.matching import Match
from .log import WriteLog, new_names
from .match import write_match
from .seeding import (
    cuda_devices,
    module_seed,
    random_state_kept,
    seed_everything,
)
from .watch import memory_map


def write_matches(
    matches: Sequence[Match], whole: WholeModel, seed: int
) -> WriteLog:
    """Carry out a plan: write every match that has something new, in order.

    The global random state is left as it was, gradients are off. Every rank
    takes part, and all end with the values of rank 0.

    Raises:
        RuleError: If an initializer fails, wrote nothing, replaced what it
            should write, or wrote something else, and if parameters are not
            finite afterwards; on this rank or on another one.
    """
    writer = _Writer(whole, seed)
    acting = [match for match in matches if match.new]
    with random_state_kept(writer.devices), torch.no_grad():
        # One group, unless parameters lie in parts.
        for units, members in groupby(acting, writer.units_of):
            writer.write(units, list(members))
    log = writer.log
    with on_all_ranks():
        errors = [f for f in log.problems() if f.level == 'error']
        if errors:
            raise _left(RuleError(errors), log)
    entries = whole.tree.entries
    write_masters(e.value for e in entries if e.path in log.written)
    return log


def _left(error: RuleError, log: WriteLog) -> RuleError:
    """An error that says what was written before it."""
    *others, last = error.findings
    names = [
        entry.path
        for entry in log.tree.entries
        if entry.path in log.written and entry.path not in last.names
    ]
    if not names:
        return error
    text = f'{last.message} (written before, and left so: {some(names, 3)})'
    return RuleError([*others, replace(last, message=text)])


class _Writer:
    """Writes matches, group by group."""

    def __init__(self, whole: WholeModel, seed: int) -> None:
        self.log = WriteLog(whole.tree)
        self._entries = whole.tree.entries
        self._shards, self._seed = whole.shards, seed
        self.devices = cuda_devices(entry.value for entry in self._entries)
        if self._shards and torch.cuda.is_initialized():
            # Parts that lie on the CPU are gathered there.
            self.devices = sorted({*self.devices, torch.cuda.current_device()})

    def units_of(self, match: Match) -> Tuple[Any, ...]:
        """What has to be gathered to write a match."""
        concerned = [*match.new, *match.kept, *match.sources]
        return self._shards.units_of(entry.value for entry in concerned)

    def write(self, units: Sequence[Any], matches: Sequence[Match]) -> None:
        """Write some matches, the same ones on all ranks at a time."""
        log = self.log
        with self._shards.gathered(units):
            # Those of which it is known what they write reach no further.
            is_known = all(
                item.writes for m in matches for item in m.rule.init_cfg
            )
            outside = memory_map(
                (entry.path, entry.value)
                for entry in (() if is_known else self._entries)
            )
            error = None
            wrote: List[List[Set[str]]] = []
            try:
                for match in matches:
                    number = module_seed(self._seed, match.path, match.n)
                    seed_everything(number, self.devices)
                    wrote.append(write_match(match, outside))
            except RuleError as caught:
                done = replace(log, matches=[*log.matches, *matches])
                done.wrote = [*log.wrote, *wrote]
                error = _left(caught, done)
            tensors = {e.path: e.value for m in matches for e in m.new}
            wrote, differed = in_line(error, wrote, tensors)
            log.matches += matches
            log.wrote += wrote
            log.differed += differed
            self._look_at(tensors, matches, wrote)

    def _look_at(
        self,
        tensors: Dict[str, Tensor],
        matches: Sequence[Match],
        wrote: Sequence[List[Set[str]]],
    ) -> None:
        """Take the statistics of what was written, once for each tensor."""
        names = set().union(*map(new_names, matches, wrote))
        while names:
            name = names.pop()
            found = statistics(tensors[name])
            same = self.log.tree.with_sharing([name])
            names -= same
            self.log.statistics.update(dict.fromkeys(same, found))
