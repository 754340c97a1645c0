"""What was written, told in the records of a report.

Nothing here writes to a model or judges what was done.
"""

from typing import Dict, Iterable, List, Sequence, Set

from torch import Tensor
from torch.nn.parameter import is_lazy

from ..model.tensors import has_memory, sample, statistics_of_samples
from ..model.tree import ModelTree, Slot
from ..rules.matching import Match
from ..rules.rule import Rule
from ..writing.apply import Outcome
from .records import RuleRecord, TensorRecord


def tensor_records(
    slots: Sequence[Slot],
    loaded: Set[int],
    matches: Iterable[Match],
    outcome: Outcome,
) -> List[TensorRecord]:
    """Say of each slot where its values come from; ``loaded`` holds ``id()``
    of every loaded tensor.
    """
    sources = {
        (match.rule.index, name): source.name
        for match in matches
        for name, source in match.copies.items()
    }
    records = []
    for slot in slots:
        record = TensorRecord(
            slot.name,
            shape_of(slot.tensor),
            str(slot.tensor.dtype).replace('torch.', ''),
            'model',
        )
        number = id(slot.tensor)
        if number in outcome.written:
            record.origin = 'rule'
            record.rule = outcome.written[number][-1]
            known = outcome.statistics.get(number, (None, None))
            record.mean, record.std = known
            record.source = sources.get((record.rule, slot.name))
        elif number in loaded:
            record.origin = 'checkpoint'
        records.append(record)
    return records


def rule_records(
    rules: Sequence[Rule], matches: Iterable[Match], outcome: Outcome
) -> List[RuleRecord]:
    """Say of each rule what it did."""
    records = {
        rule: RuleRecord(
            rule.index,
            list(rule.paths),
            [str(item) for item in rule.init_cfg],
            rule.copy_from,
        )
        for rule in rules
    }
    for match in matches:
        record = records[match.rule]
        record.matched.append(match.path)
        record.wrote += [
            slot.name
            for slot in match.new
            if match.rule.index in outcome.written.get(id(slot.tensor), ())
        ]
        record.kept += [slot.name for slot in match.kept]
    return list(records.values())


def add_scales(records: Sequence[TensorRecord], tree: ModelTree) -> None:
    """Fill in the mean and standard deviation of what no rule wrote, which
    new values are compared with.

    They are those of at least 1,024 evenly spaced elements (of all in a small
    tensor), so that it costs little in a model of any size. Parameters that
    lie in parts are gathered for it, one unit at a time, so that every
    process has to take part. Lazy and meta tensors are left without, and so
    are integers.
    """
    missing: Dict[int, List[TensorRecord]] = {}
    whole = []
    for slot, record in zip(tree.slots, records):
        if record.mean is None:
            missing.setdefault(id(slot.tensor), []).append(record)
            if not hasattr(slot.tensor, 'stands_for'):
                whole.append(slot.tensor)
    _fill(missing, whole)
    with tree.bare():
        for unit in tree.shards.units:
            with tree.shards.gathered([unit], write=False) as gathered:
                _fill(missing, gathered)


def _fill(
    missing: Dict[int, List[TensorRecord]], tensors: Iterable[Tensor]
) -> None:
    tensors = [t for t in tensors if id(t) in missing and _has_scale(t)]
    samples = [sample(tensor) for tensor in tensors]
    for tensor, found in zip(tensors, statistics_of_samples(samples)):
        for record in missing[id(tensor)]:
            record.mean, record.std = found


def _has_scale(tensor: Tensor) -> bool:
    # Subclasses may be pieces of a tensor, or compute what they hold.
    return (
        has_memory(tensor)
        and type(tensor.data) is Tensor
        and (tensor.is_floating_point() or tensor.is_complex())
    )


def shape_of(tensor: Tensor) -> List[int]:
    """Shape of a tensor; that of a lazy one is not known."""
    return [] if is_lazy(tensor) else list(tensor.shape)
