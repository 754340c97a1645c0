"""What initializers must leave alone, and whether they did.

Private memory (``memory.py``) keeps what is under a match out of their reach,
and ``watch.py`` stops what torch would write elsewhere. What is left is
compared: what hangs where in the model, where its tensors lie, and what they
hold.
"""

from typing import Any, Dict, Iterable, List, Tuple

import torch.nn as nn
from torch import Tensor

from ..errors import Finding, RuleError, some
from ..model.tensors import has_memory
from ..model.tree import ModelTree
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
        # It drops hooks too, and which buffers state dicts leave out.
        self._own: List[Tuple[Any, Dict[str, Any], Any, Any]] = [
            (own, dict(own), hidden, set(hidden))
            for own in map(vars, self._modules)
            for hidden in [own.get('_non_persistent_buffers_set', set())]
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
        for own, before, hidden, names in self._own:
            if own.get('_parameters') is not before.get('_parameters'):
                own.clear()
                own.update(before)
            if hidden != names:
                hidden.clear()
                hidden.update(names)
        for _, own, kind, entries, before in self._before:
            if kind in own:
                own[kind] = entries
            now = [(key, id(value)) for key, value in entries.items()]
            if now != [(key, id(value)) for key, value in before.items()]:
                entries.clear()
                entries.update(before)


class Outside:
    """All of a model but what some rules may write.

    Args:
        tree (ModelTree): The model.
        new (Iterable[str]): Names of what they may write.
    """

    def __init__(self, tree: ModelTree, new: Iterable[str]) -> None:
        self._structure = Structure(tree.nodes[0].value)
        self._plain = [e for e in tree.entries if has_memory(e.value)]
        # An alias keeps the memory that a tensor has.
        self._home = [entry.value.data for entry in self._plain]
        # Who writes these, writes what shares elements with them.
        free = tree.with_sharing(new)
        for name in list(free):
            free.update(tree.overlapping.get(name, ()))
        self._still = [e for e in self._plain if e.path not in free]
        self._held = self._digests()

    def _digests(self) -> Dict[int, bytes]:
        tensors = {id(e.value): e.value for e in self._still}
        return {n: digest(_in_order(t)) for n, t in tensors.items()}

    def differences(self) -> List[Finding]:
        """What is not as it was. What was replaced or moved hangs and lies as
        before after that; values that were written cannot be restored.
        """
        findings: List[Finding] = []
        try:
            self._structure.check()
        except RuleError as error:
            findings += error.findings
        self._structure.restore()
        moved = []
        for entry, home in zip(self._plain, self._home):
            if not _lies_as(entry.value, home):
                moved.append(entry.path)
                entry.value.data = home
        now = self._digests()
        changed = [
            entry.path
            for entry in self._still
            if now[id(entry.value)] != self._held[id(entry.value)]
        ]
        if moved:
            text = (
                f'it gave other memory (`.data = ...`) to {some(moved, 5)}, '
                'outside of what the path names; that has its own again'
            )
            findings.append(Finding('error', 'outside', text, moved))
        if changed:
            text = (
                f'it wrote {some(changed, 5)}, which it must leave alone, '
                'past torch (through NumPy, or from a thread), and that '
                'cannot be undone: the model in memory is not what it was; '
                'build it again'
            )
            findings.append(Finding('error', 'outside', text, changed))
        return findings


def _in_order(tensor: Tensor) -> Tensor:
    """A tensor's elements in the order in which they lie, each once: to read
    them takes no copy.
    """
    for dim, stride in enumerate(tensor.stride()):
        if stride == 0:
            tensor = tensor.narrow(dim, 0, 1)
    strides = tensor.stride()
    order = sorted(range(tensor.dim()), key=lambda dim: -strides[dim])
    return tensor.detach().permute(order)


def _lies_as(tensor: Tensor, home: Tensor) -> bool:
    return (
        tensor.data_ptr() == home.data_ptr()
        and tensor.shape == home.shape
        and tensor.stride() == home.stride()
        and tensor.dtype == home.dtype
    )
