"""Which parameters train: those that need a gradient, that an optimizer has,
and whose learning rate is not 0.
"""

from typing import Any, Dict, Iterable, List, Optional, Set, Tuple, Union

import torch.nn as nn
from torch import Tensor
from torch.nn.parameter import is_lazy

from ..checks import findings as find
from ..errors import Finding
from ..model.tree import ModelTree
from ..processes.masters import Optimized
from .records import TensorRecord
from .report import InitReport

_CODES = ('frozen', 'not-optimized')


def tell_training(
    report: InitReport, tree: ModelTree, optimized: Optional[Optimized] = None
) -> None:
    """Say in a report of each parameter whether it trains, and how many do.

    Without an optimizer, all that is known is what needs no gradient.
    """
    parameters: Dict[int, Tuple[int, Optional[bool]]] = {}
    for entry, record in zip(tree.entries, report.tensors):
        if isinstance(entry.value, nn.Parameter):
            record.trains = _trains(entry.value, optimized)
            size = 0 if is_lazy(entry.value) else entry.value.numel()
            parameters[id(entry.value)] = size, record.trains
    known = [trains for _, trains in parameters.values()]
    if optimized is None and all(trains is None for trains in known):
        report.training = ''
        return
    sizes = [
        size for size, trains in parameters.values() if trains is not False
    ]
    most = 'at most ' if None in known else ''
    total = sum(size for size, _ in parameters.values())
    report.training = (
        f'{most}{len(sizes)} of {len(known)} tensors, '
        f'{_count(sum(sizes), total)} parameters'
    )


def _trains(tensor: Tensor, optimized: Optional[Optimized]) -> Optional[bool]:
    if not tensor.requires_grad:
        return False
    return None if optimized is None else optimized.moves(tensor)


def _count(some: int, total: int) -> str:
    """So many of so many, large numbers in millions."""
    if total < 1e5:
        return f'{some:,} of {total:,}'
    parts = [
        f'{n / 1e6:.3g}' if n < 9.995e8 else f'{n / 1e6:,.0f}'
        for n in (some, total)
    ]
    return f'{parts[0]} of {parts[1]} M'


def drawn_by_rules(tensors: Iterable[TensorRecord]) -> Set[str]:
    """Names of what rules wrote, other than from a file or another part."""
    return {
        tensor.name
        for tensor in tensors
        if tensor.origin == 'rule' and not (tensor.file or tensor.source)
    }


def see_training(
    report: InitReport,
    tree: ModelTree,
    optimized: Optional[Iterable[Union[Tensor, Dict[str, Any]]]] = None,
) -> List[Finding]:
    """Bring a report to what trains now, and give the findings about it that
    it did not have.
    """
    known = None if optimized is None else Optimized(optimized)
    tell_training(report, tree, known)
    written = {
        tensor.name: [tensor.rule]
        for tensor in report.tensors
        if tensor.origin == 'rule' and tensor.rule is not None
    }
    now = find.frozen(tree, drawn_by_rules(report.tensors))
    if known is not None:
        now += find.not_optimized(tree, written, known)
    before = [f for f in report.findings if f.code in _CODES]
    if now != before:
        kept = [f for f in report.findings if f.code not in _CODES]
        report.findings[:] = [*kept, *now]
    return [finding for finding in now if finding not in before]
