"""How large the values are that no rule wrote.

They are what new values are compared with.
"""

from typing import Dict, List, Sequence

import torch
from torch import Tensor

from .moments import statistics
from .report import InitReport, TensorRecord
from .tree import ModelTree
from .watch import has_memory


def add_scales(report: InitReport, tree: ModelTree) -> None:
    """Fill in mean and standard deviation where a report lacks them.

    Parameters that lie in parts are gathered for it, one unit at a time, so
    that every process has to take part. Lazy and meta tensors are left
    without, and so are integers.

    Args:
        report (InitReport): What was done.
        tree (ModelTree): The model.
    """
    missing: Dict[int, List[TensorRecord]] = {}
    for slot, record in zip(tree.slots, report.tensors):
        if record.mean is None:
            missing.setdefault(id(slot.tensor), []).append(record)
    for slot in tree.slots:
        if not hasattr(slot.tensor, 'stands_for'):
            _fill(missing.get(id(slot.tensor), ()), slot.tensor)
    with tree.bare(), torch.no_grad():
        for unit in tree.shards.units:
            with tree.shards.gathered([unit], write=False) as wholes:
                for whole in wholes:
                    _fill(missing.get(id(whole), ()), whole)


def _fill(records: Sequence[TensorRecord], tensor: Tensor) -> None:
    # Subclasses may be pieces of a tensor, or compute what they hold.
    if records and has_memory(tensor) and type(tensor.data) is Tensor:
        if tensor.is_floating_point() or tensor.is_complex():
            known, _ = statistics(tensor)
            for record in records:
                record.mean, record.std = known
