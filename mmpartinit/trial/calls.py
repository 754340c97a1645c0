"""Calls of a network's parts, marked in autograd's graph."""

from contextlib import ExitStack, contextmanager
from typing import (
    Any,
    Callable,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

import torch.nn as nn
from torch import Tensor

from .graph import Op, operands

# Of what a call gives, if it gives a tensor.
Shape = Optional[Sequence[int]]


class Mark(NamedTuple):
    """A tensor on its way into a part, or out of one.

    Attributes:
        op (Op): The operation that marks it, and does nothing else.
        shape (tuple): Its shape.
        is_zero (bool): Whether it holds nothing but zeros.
    """

    op: Op
    shape: Tuple[int, ...]
    is_zero: bool

    @property
    def source(self) -> Op:
        """What computed the tensor."""
        return operands(self.op)[0]


class Call(NamedTuple):
    """A call of a part, with what needs gradients of what it took and gave."""

    part: nn.Module
    ins: List[Mark]
    outs: List[Mark]


@contextmanager
def marked(parts: Iterable[nn.Module]) -> Iterator[List[Call]]:
    """Mark what goes into parts of a network and what comes out.

    Yields:
        list[Call]: The calls so far, in the order in which they end.
    """
    calls: List[Call] = []
    waiting: List[List[Mark]] = []

    def before(part: nn.Module, args: Any, kwargs: Any) -> Any:
        for parameter in part.parameters():
            # A frozen stage takes that from all in it, at each pass.
            parameter.requires_grad_(True)
        waiting.append([])
        return tuple(replaced([args, kwargs], _marking(waiting[-1])))

    def after(part: nn.Module, _: Any, output: Any) -> Any:
        outs: List[Mark] = []
        output = replaced(output, _marking(outs))
        calls.append(Call(part, waiting.pop(), outs))
        return output

    with ExitStack() as hooks:
        for part in parts:
            add = part.register_forward_pre_hook
            hooks.enter_context(add(before, with_kwargs=True))
            hooks.enter_context(part.register_forward_hook(after))
        yield calls


def with_first(output: Any, make: Callable[[Tensor], Tensor]) -> Any:
    """What a part gives, with another tensor in place of its first."""
    done: List[Tensor] = []

    def change(tensor: Tensor) -> Tensor:
        done.append(tensor)
        return make(tensor) if len(done) == 1 else tensor

    return replaced(output, change)


def _marking(marks: List[Mark]) -> Callable[[Tensor], Tensor]:
    def mark(tensor: Tensor) -> Tensor:
        if tensor.requires_grad:
            tensor = tensor.clone()
            is_zero = not tensor.detach().any()
            marks.append(Mark(tensor.grad_fn, tuple(tensor.shape), is_zero))
        return tensor

    return mark


def replaced(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """What a part takes or gives, with other floating tensors in it."""
    if isinstance(value, Tensor):
        return change(value) if value.is_floating_point() else value
    if isinstance(value, dict):
        changed = {key: replaced(part, change) for key, part in value.items()}
        return changed if type(value) is dict else type(value)(**changed)
    if isinstance(value, (list, tuple)):
        parts = [replaced(part, change) for part in value]
        named = hasattr(value, '_fields')
        return type(value)(*parts) if named else type(value)(parts)
    return value
