"""A plan as a report: after it was carried out, and before."""

from typing import TYPE_CHECKING, Dict, List, Optional

from torch import Tensor
from torch.nn.parameter import is_lazy

from .findings import (
    never_trained,
    not_copied,
    not_written,
    overwritten,
    rewritten,
)
from .matching import Match
from .report import Finding, InitReport, RuleRecord, TensorRecord
from .rules import reached
from .tree import Slot
from .writing import Outcome

if TYPE_CHECKING:
    from .plan import InitPlan


def describe(
    plan: 'InitPlan', seed: Optional[int], outcome: Outcome
) -> InitReport:
    """Work out the report of a plan.

    Args:
        plan (InitPlan): The plan.
        seed (int, optional): What values are drawn from.
        outcome (Outcome): What was written.

    Returns:
        InitReport: With the plan's own findings.
    """
    written = outcome.written
    sources = {
        (match.rule.index, name): source.name
        for match in plan.matches
        for name, source in match.copies.items()
    }
    tensors = []
    for slot in plan.tree.slots:
        record = TensorRecord(
            slot.name,
            shape_of(slot.tensor),
            str(slot.tensor.dtype).replace('torch.', ''),
            'model',
        )
        number = id(slot.tensor)
        if number in written:
            record.origin = 'rule'
            record.rule = written[number][-1]
            known = outcome.statistics.get(number, (None, None))
            record.mean, record.std = known
            record.source = sources.get((record.rule, slot.name))
        elif number in plan.loaded:
            record.origin = 'checkpoint'
        tensors.append(record)
    rules = {
        rule.index: RuleRecord(
            rule.index,
            list(rule.paths),
            [str(item) for item in rule.init_cfg],
            rule.copy_from,
        )
        for rule in plan.rules
    }
    for match in plan.matches:
        record = rules[match.rule.index]
        record.matched.append(match.path)
        record.wrote += [
            slot.name
            for slot in match.new
            if match.rule.index in written.get(id(slot.tensor), ())
        ]
        record.kept += [slot.name for slot in match.kept]
    return InitReport(seed, tensors, list(rules.values()), list(plan.findings))


def preview(plan: 'InitPlan') -> InitReport:
    """Work out the report of a plan that is not carried out.

    Args:
        plan (InitPlan): The plan; it may have problems.

    Returns:
        InitReport: Origin ``'rule'`` for what rules would write, no values,
        and the plan's problems as findings of level ``'error'``. Where only
        running an initializer tells what it writes (``Apply``,
        ``InitWeights``, ``Pretrained``, ``override`` and users' own), all
        that it may write is taken for it.
    """
    written: Dict[int, List[int]] = {}
    for match in plan.matches:
        for slot in would_write(match):
            rules = written.setdefault(id(slot.tensor), [])
            if match.rule.index not in rules:
                rules.append(match.rule.index)
    report = describe(plan, None, Outcome(written))
    slots = plan.tree.slots
    report.findings = [
        *(Finding('error', 'rule', text, []) for text in plan.problems),
        *report.findings,
        *not_written(plan.matches, written),
        *not_copied(plan.matches),
        *rewritten(slots, written),
        *overwritten(slots, written, plan.loaded),
        *never_trained(slots, written, None),
    ]
    return report


def would_write(match: Match) -> List[Slot]:
    """New tensors of a match that its rule writes, or may write."""
    if match.rule.copy_from is not None:
        copies = match.copies
        return [slot for slot in match.new if slot.name in copies]
    known = set()
    target = match.target
    for item in match.rule.init_cfg:
        modules = reached(item, target)
        if modules is None:
            return list(match.new)
        for module in modules:
            known.update(
                id(getattr(module, key, None)) for key in ('weight', 'bias')
            )
    return [slot for slot in match.new if id(slot.tensor) in known]


def shape_of(tensor: Tensor) -> List[int]:
    """Shape of a tensor; that of a lazy one is not known."""
    return [] if is_lazy(tensor) else list(tensor.shape)
