"""Rows of classification layers, by the names of the classes."""

import copy
import fnmatch
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import torch
import torch.nn as nn
from mmengine.model import BaseModule
from torch import Tensor

from ..errors import some
from .heads import ANCHORS, BACKGROUND, HEADS, PARTS, SCORES, Layer
from .layers import has_init_weights, own_reset

WAY_OUT = 'write such rows by a function of your own, through Apply'


class ClassTensor(NamedTuple):
    """A tensor with rows for classes.

    Attributes:
        name (str): Its name, as seen from the module that is looked at.
        tensor (Tensor): The tensor.
        head (nn.Module): The head that it is in.
        key (str): Its name there.
        form (str): What its rows stand for, as ``heads.py`` has it.
    """

    name: str
    tensor: Tensor
    head: nn.Module
    key: str
    form: str


class _Layout(NamedTuple):
    """Rows as outer x (classes + background) x inner."""

    outer: int
    background: int
    inner: int

    def rows(self, count: int, classes: Sequence[int]) -> Tensor:
        """The rows of some of so many classes, and of the background."""
        kinds = count + self.background
        grid = torch.arange(self.outer * kinds * self.inner)
        grid = grid.view(self.outer, kinds, self.inner)
        return grid[:, [*classes, *range(count, kinds)]].flatten()


def class_tensors(module: nn.Module) -> List[ClassTensor]:
    """Tensors of a module that have rows for classes, by the table."""
    found: List[ClassTensor] = []
    for path, head in _heads(module):
        known = _known(head)
        state = head.state_dict(keep_vars=True)
        for layer in known if isinstance(known, tuple) else ():
            if layer.unless and getattr(head, layer.unless):
                continue
            for key in fnmatch.filter(state, layer.names):
                name = f'{path}.{key}' if path else key
                tensor = ClassTensor(name, state[key], head, key, layer.form)
                found.append(tensor)
    return found


def obstacle(module: nn.Module) -> str:
    """Why rows of a module cannot go by the names of classes, as the end of a
    sentence that starts with it; '' if they can.
    """
    unknown = []
    for path, head in _heads(module):
        why = _known(head)
        below = (_known(m) for m in head.modules() if m is not head)
        if why is None and _count(head) > 0:
            if not any(isinstance(known, tuple) for known in below):
                why = 'no head that is known'
        if isinstance(why, str) and head.state_dict():
            unknown.append(f'{path or "it"} is {type(head).__name__}, {why}')
    if unknown:
        return (
            f'has rows for classes, but {"; ".join(unknown)}; {WAY_OUT}, and '
            'name the other heads by path'
        )
    if class_tensors(module):
        return ''
    return (
        'has no rows for classes that are known; name the whole head and not '
        f'a layer of it, or for a head that is not known, {WAY_OUT}'
    )


def _heads(module: nn.Module) -> List[Tuple[str, nn.Module]]:
    """What is in a module, but for the first of two stages: that knows no
    classes, whatever head it is.
    """
    return [
        (path, child)
        for path, child in module.named_modules()
        if 'rpn_head' not in path.split('.')
    ]


def _count(module: nn.Module) -> int:
    """How many classes a module says that it has; networks of mmcv's have -1
    for none.
    """
    number = getattr(module, 'num_classes', 0)
    return number if isinstance(number, int) else 0


def _known(head: nn.Module) -> Union[None, str, Tuple[Layer, ...]]:
    """What the table says of a module, or of what it inherits from."""
    names = [kind.__name__ for kind in type(head).__mro__]
    return next((HEADS[name] for name in names if name in HEADS), None)


class ClassRows:
    """Gives the tensors of a checkpoint the rows that a module has.

    Args:
        module (nn.Module): The module, before it loads.
        old (list[str]): Names of the checkpoint's classes.
        new (list[str]): Those of the module's.

    Raises:
        ValueError: If something in the module may have rows for classes and
            is not known, or nothing has.
    """

    def __init__(
        self, module: nn.Module, old: List[str], new: List[str]
    ) -> None:
        hindered = obstacle(module)
        if hindered:
            raise ValueError(f'{type(module).__name__} {hindered}')
        self.old, self.new = old, new
        self._known = {id(t.tensor): t for t in class_tensors(module)}
        self._held = {
            number: known.tensor.detach().clone()
            for number, known in self._known.items()
        }
        self._fitted: Dict[int, str] = {}
        self._anew: Dict[int, Dict[str, Tensor]] = {}
        rows = {name: row for row, name in enumerate(old)}
        pairs = [(rows[name], i) for i, name in enumerate(new) if name in rows]
        self._from = [there for there, _ in pairs]
        self._to = [here for _, here in pairs]

    def has(self, tensor: Optional[Tensor]) -> bool:
        """Whether a tensor of the module has rows for classes."""
        return id(tensor) in self._known

    def fitted(self, value: Tensor, tensor: Tensor) -> Tensor:
        """A tensor of the checkpoint, with the rows of the module's.

        Args:
            value (Tensor): The tensor of the checkpoint.
            tensor (Tensor): That of the module. Rows of classes that the
                checkpoint lacks stay as they are there.

        Raises:
            ValueError: If the rows are not what the table says, with the
                reason as the end of a sentence.
        """
        known = self._known[id(tensor)]
        there = _layout(known, len(value), len(self.old))
        here = _layout(known, len(tensor), len(self.new))
        if there is None or there != here or value[0].shape != tensor[0].shape:
            raise ValueError(
                f'{len(self.old)} classes there and {len(self.new)} here do '
                f'not make that ({known.form}); correct `classes`, or '
                f'{WAY_OUT}'
            )
        fitted = self._start(known, value).clone()
        rows = here.rows(len(self.new), self._to)
        taken = value[there.rows(len(self.old), self._from)]
        fitted[rows] = taken.to(fitted)
        self._fitted[id(tensor)] = known.name
        return fitted

    def _start(self, known: ClassTensor, value: Tensor) -> Tensor:
        """What rows start from that the checkpoint has no class for."""
        held, head = self._held[id(known.tensor)], known.head
        if (
            len(self._to) == len(self.new)
            or held.shape != value.shape
            or not torch.equal(held, value.to(held))
        ):
            return held
        # It was loaded as it is, so that each row is of another class.
        if id(head) not in self._anew:
            self._anew[id(head)] = _started_anew(head)
        return self._anew[id(head)][known.key]

    def note(self) -> str:
        """What was done, in a sentence's part.

        Raises:
            ValueError: If the checkpoint has none of the tensors.
        """
        if not self._fitted:
            names = [known.name for known in self._known.values()]
            raise ValueError(
                f'it has none of {some(names, 3)}, whose rows are to go by '
                'the names of classes; correct `prefix` or `revise_keys`'
            )
        lacking = [
            known.name
            for number, known in self._known.items()
            if number not in self._fitted
        ]
        said = [
            f'{len(self._to)} of {len(self.new)} rows by name in '
            f'{some(list(self._fitted.values()), 4)}',
        ]
        for what, names in {
            'without an old class, as the head starts them': [
                name for name in self.new if name not in self.old
            ],
            'old, and not used': [
                name for name in self.old if name not in self.new
            ],
            'not in the file': lacking,
        }.items():
            said += [f'{what}: {", ".join(names)}'] if names else []
        return '; '.join(said)


def _layout(known: ClassTensor, rows: int, count: int) -> Optional[_Layout]:
    """How so many rows stand for so many classes; None if they cannot."""
    background = known.form == BACKGROUND
    if known.form == SCORES:
        background = rows == count + 1
    elif known.form == ANCHORS:
        head = known.head
        background = head.cls_out_channels > head.num_classes
    number, rest = divmod(rows, count + background)
    if rest or number < 1:
        return None
    if known.form == PARTS:
        return _Layout(1, 0, number)
    several = number > 1 and known.form != ANCHORS
    return None if several else _Layout(number, int(background), 1)


def _started_anew(head: nn.Module) -> Dict[str, Tensor]:
    """A head's tensors as its own code starts them."""
    twin = copy.deepcopy(head)
    for module in twin.modules():
        reset = own_reset(module)
        if reset is not None:
            reset()
        if isinstance(module, BaseModule):
            module._is_init = False  # `is_init` is read-only in 0.8
    if has_init_weights(twin):
        twin.init_weights()
    return twin.state_dict()
