"""A plan carried out: :func:`write_matches` alone writes to a model.

Match by match, each from its own seed, the same on all ranks.
"""

from dataclasses import replace
from itertools import groupby
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import torch

from ..errors import Finding, RuleError, some
from ..initializers.around import around, known
from ..model.tensors import statistics_of
from ..model.whole import WholeModel
from ..processes.masters import write_masters
from ..processes.ranks import in_line, on_all_ranks
from ..rules.matching import Match
from ..rules.rule import Rule
from ..seeding import (
    cuda_devices,
    module_seed,
    random_state_kept,
    seed_everything,
)
from .log import WriteLog, new_names
from .match import write_match
from .memory import Scratch
from .outside import Outside
from .watch import memory_map


def write_matches(
    matches: Sequence[Match],
    whole: WholeModel,
    seed: int,
    classes: Union[Sequence[str], str],
) -> WriteLog:
    """Carry out a plan: write every match that has something new, in order.

    The global random state is left as it was, gradients are off. Every rank
    takes part, and all end with the values of rank 0.

    Args:
        matches (Sequence[Match]): What rules act on, in order.
        whole (WholeModel): The model.
        seed (int): Seed of the run.
        classes (Sequence[str] | str): Names of the classes that the config
            trains on, or why they are not known.

    Raises:
        RuleError: If an initializer fails, wrote nothing, replaced what it
            should write, or wrote something else, and if parameters are not
            finite afterwards; on this rank or on another one.
    """
    acting = [match for match in matches if match.new]
    log = WriteLog(whole.tree, acting)
    shards = whole.shards
    devices = cuda_devices(entry.value for entry in whole.tree.entries)
    if shards and torch.cuda.is_initialized():
        # Parts that lie on the CPU are gathered there.
        devices = sorted({*devices, torch.cuda.current_device()})

    def units_of(match: Match) -> Tuple[Any, ...]:
        concerned = [*match.new, *match.kept, *match.sources]
        return shards.units_of(entry.value for entry in concerned)

    with random_state_kept(devices), torch.no_grad(), known(classes):
        # One group, unless parameters lie in parts.
        for units, members in groupby(acting, units_of):
            with shards.gathered(units):
                _write(list(members), log, seed, devices)
    with on_all_ranks():
        errors = [f for f in log.problems() if f.level == 'error']
        if errors:
            raise _left(RuleError(errors), log)
    write_masters(e.value for e in log.tree.entries if e.path in log.written)
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


def _with(
    error: Optional[RuleError],
    found: List[Finding],
    rules: Dict[int, Rule],
) -> Optional[RuleError]:
    """An error, and what one of these rules did besides."""
    if not found:
        return error
    if len(rules) == 1:
        also = RuleError(found).about(next(iter(rules.values())))
    else:
        numbers = ', '.join(map(str, sorted(rules)))
        also = RuleError(found).about(where=f'one of the rules {numbers}')
    return RuleError([*(error.findings if error else ()), *also.findings])


def _write(
    matches: Sequence[Match], log: WriteLog, seed: int, devices: List[int]
) -> None:
    """Write the log's next matches, the same ones on all ranks at a time."""
    # Those of which it is known what they write reach no further.
    unknown = {
        match.rule.index: match.rule
        for match in matches
        if not all(item.writes for item in match.rule.init_cfg)
    }
    tensors = {e.path: e.value for m in matches for e in m.new}
    outside = Outside(log.tree, tensors) if unknown else None
    entries = log.tree.entries if unknown else []
    reach = memory_map((entry.path, entry.value) for entry in entries)
    scratch = Scratch()
    first, error = len(log.wrote), None
    try:
        for match in matches:
            number = module_seed(seed, match.path, match.n)
            seed_everything(number, devices)
            log.wrote.append(write_match(match, reach, scratch))
            log.notes += [(match.rule, text) for text in around().notes]
            around().notes.clear()
    except RuleError as caught:
        error = caught
    error = _with(error, outside.differences() if outside else [], unknown)
    if error is not None:
        error = _left(error, log)
    wrote, differed = in_line(error, log.wrote[first:], tensors)
    log.wrote[first:] = wrote
    log.differed += differed
    # The statistics of what was written, once for each tensor, under all its
    # names; of tensors that share an address, each has its own.
    names = set().union(*map(new_names, matches, wrote))
    written = {id(tensors[name]): tensors[name] for name in names}
    found = statistics_of(written.values())
    for name in names:
        for other in log.tree.sharing.get(name, [name]):
            if other == name or other not in names:
                log.statistics[other] = found[id(tensors[name])]
