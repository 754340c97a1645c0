"""The only code that writes to a model: one rule's init_cfg on one match.

Protection does not depend on how an initializer writes. Loaded tensors are
copied aside, the initializer does what it likes, the copies go back.
"""

from typing import Any, Iterable, List, Sequence, Set, Tuple

import torch.nn as nn
from torch import Tensor

from .paths import Slot
from .rules import InitItem, RuleError
from .watch import WriteWatch


def write(
    target: nn.Module,
    items: Sequence[InitItem],
    new: Sequence[Slot],
    kept: Sequence[Slot],
) -> List[Set[int]]:
    """Let initializers write to a module, and to nothing but its new tensors.

    Args:
        target (nn.Module): What the initializers are called with.
        items (Sequence[InitItem]): The initializers, in order.
        new (Sequence[Slot]): Entries under the target that may be written.
        kept (Sequence[Slot]): Entries under it that come out bit for bit as
            they went in. Copies of them are held meanwhile.

    Returns:
        list[set[int]]: For each initializer, ``id()`` of the tensors that it
        wrote.

    Raises:
        RuleError: If a parameter or buffer was replaced by another, or its
            shape, dtype or device changed.
        Exception: Whatever an initializer raises. The kept tensors are
            intact then, too.
    """
    copies = _Copies(slot.tensor for slot in kept)
    before = [(slot, _form(slot.tensor)) for slot in new]
    written = []
    try:
        for item in items:
            with WriteWatch(slot.tensor for slot in new) as watch:
                item(target)
            written.append(watch.written)
    finally:
        replaced = [slot.name for slot in [*new, *kept] if _put_back(slot)]
        copies.restore()
    if replaced:
        raise RuleError(
            f'it replaced {", ".join(replaced)} by other tensors, which the '
            'optimizer does not know; write in place, as nn.init does'
        )
    changed = [
        f'{slot.name} from {form} to {_form(slot.tensor)}'
        for slot, form in before
        if form != _form(slot.tensor)
    ]
    if changed:
        raise RuleError(f'it changed the form of {"; ".join(changed)}')
    return written


class _Copies:
    """Copies of tensors, to put back."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        unique = {id(tensor): tensor for tensor in tensors}.values()
        # The alias keeps the memory that a tensor had, in case that
        # `tensor.data` is bound to another meanwhile.
        self._saved: List[Tuple[Tensor, Tensor, Tensor]] = [
            (tensor, tensor.data, tensor.detach().clone()) for tensor in unique
        ]

    def restore(self) -> None:
        for tensor, alias, copy in self._saved:
            alias.copy_(copy)
            if _form(tensor) != _form(alias) or (
                tensor.data_ptr() != alias.data_ptr()
            ):
                tensor.data = alias


def _put_back(slot: Slot) -> bool:
    """Hang the tensor where it hung before; whether it was gone."""
    for entries in (slot.owner._parameters, slot.owner._buffers):
        if slot.key in entries:
            gone = entries[slot.key] is not slot.tensor
            entries[slot.key] = slot.tensor
            return gone
    setattr(slot.owner, slot.key, slot.tensor)
    return True


def _form(tensor: Tensor) -> Tuple[Any, ...]:
    return tuple(tensor.shape), tensor.dtype, tensor.device
