"""How large the values are that no rule wrote.

They are what new values are compared with.
"""

from typing import Dict, List

import torch
from torch import Tensor

from .moments import statistics
from .report import InitReport
from .tree import Slot
from .watch import has_memory


def add_scales(report: InitReport, slots: List[Slot]) -> None:
    """Fill in mean and standard deviation where a report lacks them.

    Tensors that this process holds no plain values of (in parts, lazy, meta)
    are left without, and so are integers.

    Args:
        report (InitReport): What was done.
        slots (list[Slot]): The model's state dict.
    """
    tensors: Dict[str, Tensor] = {slot.name: slot.tensor for slot in slots}
    for record in report.tensors:
        tensor = tensors.get(record.name)
        if (
            record.mean is None
            and tensor is not None
            and _is_plain(tensor)
            and list(tensor.shape) == record.shape
        ):
            (record.mean, record.std), _ = statistics(tensor)


def _is_plain(tensor: Tensor) -> bool:
    """Whether it holds numbers of its own, here and as a whole."""
    return (
        has_memory(tensor)
        # Subclasses may be pieces of a tensor, or compute what they hold.
        and type(tensor.data) is torch.Tensor
        and not hasattr(tensor, 'stands_for')
        and (tensor.is_floating_point() or tensor.is_complex())
    )
