"""What initializers must leave alone, and whether they did.

Private memory (``memory.py``) keeps what is under a match out of their reach,
and ``watch.py`` stops what torch would write elsewhere. What is left is
compared: what hangs where in the model, where its tensors lie, and what they
hold.
"""

from typing import Any, Dict, List, Sequence, Set, Tuple

import torch.nn as nn
from torch import Tensor

from ..errors import RuleError, some
from ..model.tensors import has_memory
from ..model.tree import Entry
from ..processes.ranks import digest


class Structure:
    """Which modules, parameters and buffers hang where under a module."""

    def __init__(self, module: nn.Module) -> None:
        modules = dict(module.named_modules())
        self._modules = modules.values()
        # Where, in which dict, and what: `__init__` makes new dicts.
        self._before: List[Tuple[str, Any, str, Any, Dict[str, Any]]] = [
            (name, vars(child), kind, entries, dict(entries.items()))
            for name, child in modules.items()
            for kind in ('_parameters', '_buffers', '_modules')
            for entries in [getattr(child, kind)]
        ]

    def other_tensors(self) -> List[Tensor]:
        """Those that hang there without being entries of the state dict."""
        return [
            value
            for child in self._modules
            for value in (*child._buffers.values(), *vars(child).values())
            if isinstance(value, Tensor)
        ]

    def check(self) -> None:
        """See to it that nothing was replaced, taken away or added.

        Raises:
            RuleError: If it was, with the names as seen from the module.
        """
        replaced, added = [], []
        for name, own, kind, entries, before in self._before:
            start = f'{name}.' if name else ''
            now = dict(own.get(kind, entries).items())
            replaced += [
                start + key
                for key, value in before.items()
                if key not in now or now[key] is not value
            ]
            added += [start + key for key in now if key not in before]
        said = [f'replaced {", ".join(replaced)} by another'] * bool(replaced)
        said += [f'added {", ".join(added)}'] * bool(added)
        if said:
            raise RuleError.of(
                'replaced',
                f'it {" and ".join(said)}, which the optimizer does not know; '
                'write in place, as nn.init does',
                replaced + added,
            )

    def restore(self) -> None:
        """Have the same things hang there, in the same order."""
        for _, own, kind, entries, before in self._before:
            if kind in own:
                own[kind] = entries
            if [*map(id, entries.values())] != [*map(id, before.values())]:
                entries.clear()
                entries.update(before)


class Outside:
    """All of a model but what some rules may write.

    Args:
        model (nn.Module): The model.
        entries (Sequence[Entry]): What they must not write.
    """

    def __init__(self, model: nn.Module, entries: Sequence[Entry]) -> None:
        self._structure = Structure(model)
        self._plain = [e for e in entries if has_memory(e.value)]
        # An alias keeps the memory that a tensor has.
        self._home = [entry.value.data for entry in self._plain]
        self._held = self._digests()

    def _digests(self) -> Dict[int, bytes]:
        tensors = {id(e.value): e.value for e in self._plain}
        return {number: digest(tensor) for number, tensor in tensors.items()}

    def check(self) -> None:
        """See to it that it is as it was. What was replaced hangs and lies as
        before after that; values that were written cannot be restored.

        Raises:
            RuleError: If it was not.
        """
        try:
            self._structure.check()
        finally:
            self._structure.restore()
        moved: Set[str] = set()
        for entry, home in zip(self._plain, self._home):
            if not _lies_as(entry.value, home):
                entry.value.data = home
                moved.add(entry.path)
        now = self._digests()
        changed = [
            entry.path
            for entry in self._plain
            if now[id(entry.value)] != self._held[id(entry.value)]
        ]
        if changed:
            raise RuleError.of(
                'outside',
                f'{some(changed, 5)} changed, which no path names, past torch '
                '(through NumPy, or from another thread); the model in memory '
                'is not what it was, so build it again',
                changed,
            )
        if moved:
            raise RuleError.of(
                'outside',
                f'{some(sorted(moved), 5)} was given other memory (`.data = '
                '...`), which no path names, and has its own again; name it '
                'by a path as well',
                sorted(moved),
            )


def _lies_as(tensor: Tensor, home: Tensor) -> bool:
    return (
        tensor.data_ptr() == home.data_ptr()
        and tensor.shape == home.shape
        and tensor.stride() == home.stride()
        and tensor.dtype == home.dtype
    )
