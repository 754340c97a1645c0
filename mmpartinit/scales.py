"""How large the values are that no rule wrote.

They are what new values are compared with.
"""

import math
from itertools import groupby
from typing import Dict, Iterable, List, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

from .report import InitReport, TensorRecord
from .tree import ModelTree
from .watch import has_memory, sample


def add_scales(report: InitReport, tree: ModelTree) -> None:
    """Fill in mean and standard deviation where a report lacks them.

    They are those of at least 1,024 evenly spaced elements (of all in a small
    tensor), so that it costs little in a model of any size. Parameters that
    lie in parts are gathered for it, one unit at a time, so that every
    process has to take part. Lazy and meta tensors are left without, and so
    are integers.

    Args:
        report (InitReport): What was done.
        tree (ModelTree): The model.
    """
    missing: Dict[int, List[TensorRecord]] = {}
    whole = []
    for slot, record in zip(tree.slots, report.tensors):
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
    keys, samples = [], []
    for tensor in tensors:
        if id(tensor) in missing and _has_values(tensor):
            keys.append(id(tensor))
            samples.append(sample(tensor))
    for key, (mean, std) in zip(keys, _moments(samples)):
        for record in missing[key]:
            record.mean, record.std = mean, std


def _has_values(tensor: Tensor) -> bool:
    # Subclasses may be pieces of a tensor, or compute what they hold.
    return (
        has_memory(tensor)
        and type(tensor.data) is Tensor
        and (tensor.is_floating_point() or tensor.is_complex())
    )


def _moments(
    samples: List[Tensor],
) -> List[Tuple[Optional[float], Optional[float]]]:
    """Mean and standard deviation of many small tensors, in one go."""
    found: List[Tuple[Optional[float], Optional[float]]] = []
    for _, group in groupby(samples, lambda values: values.device):
        reals = [v.abs() if v.is_complex() else v for v in group]
        flat = torch.cat(reals).double().cpu().numpy()
        counts = np.array([real.numel() for real in reals])
        starts = np.cumsum(counts) - counts
        with np.errstate(invalid='ignore', over='ignore'):
            means = np.add.reduceat(flat, starts) / counts
            flat -= np.repeat(means, counts)
            flat *= flat
            stds = np.sqrt(np.add.reduceat(flat, starts) / counts)
        found += [
            tuple(x if math.isfinite(x) else None for x in pair)
            for pair in zip(means.tolist(), stds.tolist())
        ]
    return found
