"""The only code that writes to a model: one rule's init_cfg on one match.

Protection does not depend on how an initializer writes. Loaded tensors are
copied aside, the initializer does what it likes, the copies go back.
"""

from typing import Any, Dict, Iterable, List, Sequence, Set, Tuple

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
    watch: WriteWatch,
) -> List[Set[int]]:
    """Let initializers write to a module, and to nothing but its new tensors.

    Args:
        target (nn.Module): What the initializers are called with.
        items (Sequence[InitItem]): The initializers, in order.
        new (Sequence[Slot]): Entries under the target that may be written.
        kept (Sequence[Slot]): Entries under it that come out bit for bit as
            they went in. Copies of them are held meanwhile.
        watch (WriteWatch): Watches all tensors of the model.

    Returns:
        list[set[int]]: For each initializer, ``id()`` of the tensors that it
        wrote, the kept ones included.

    Raises:
        RuleError: If modules, parameters or buffers were replaced by others,
            or a tensor's shape, dtype or device changed.
        Exception: Whatever an initializer raises. The kept tensors are
            intact then, too.
    """
    structure = _Structure(target)
    copies = _Copies(slot.tensor for slot in kept)
    forms = [_form(slot.tensor) for slot in new]
    tensors = [slot.tensor for slot in new]
    written = []
    try:
        for item in items:
            # MMEngine's own initializers never write behind torch's back.
            sampled = () if item.is_mmengines else tensors
            written.append(watch.run(item, target, sampled))
    finally:
        replaced = structure.restore()
        copies.restore()
    if replaced:
        raise RuleError(
            f'it replaced {", ".join(replaced)} by another, which the '
            'optimizer does not know; write in place, as nn.init does'
        )
    changed = [
        f'{slot.name} from {form} to {_form(slot.tensor)}'
        for slot, form in zip(new, forms)
        if form != _form(slot.tensor)
    ]
    if changed:
        raise RuleError(f'it changed the form of {"; ".join(changed)}')
    return written


class _Structure:
    """Which modules, parameters and buffers hang where under a module."""

    def __init__(self, module: nn.Module) -> None:
        self._entries: List[Tuple[str, Dict[str, Any], Dict[str, Any]]] = [
            (name, entries, dict(entries))
            for name, child in module.named_modules()
            for entries in (child._parameters, child._buffers, child._modules)
            if entries
        ]

    def restore(self) -> List[str]:
        """Put back what was replaced or taken away.

        Returns:
            list[str]: Names of that, seen from the module.
        """
        replaced = []
        for name, entries, before in self._entries:
            for key, value in before.items():
                if entries.get(key) is not value:
                    entries[key] = value
                    replaced.append(f'{name}.{key}' if name else key)
        return replaced


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
            if (
                _form(tensor) != _form(alias)
                or tensor.data_ptr() != alias.data_ptr()
            ):
                tensor.data = alias


def _form(tensor: Tensor) -> Tuple[Any, ...]:
    return tuple(tensor.shape), tensor.dtype, tensor.device
