"""What is computed from what, by autograd's graph of one run."""

from typing import Any, Dict, Iterable, Iterator, List, Optional, Set

from torch import Tensor

# A node of autograd's graph: an operation, or a leaf that has a `variable`.
Op = Any

# Operations of one tensor that give 0 for 0; the first of them move elements
# around only, or scale them by a constant.
_MOVES = set(
    'View UnsafeView ReshapeAlias Permute Transpose T Unsqueeze Squeeze '
    'Expand Slice Select Alias Clone ToCopy AsStrided Repeat Unflatten '
    'UpsampleNearest2D UpsampleBilinear2D UpsampleNearest1D Mul Div '
    'NativeDropout Contiguous SwapDims Flatten Unbind Split'.split()
)
_KEEPS_ZERO = _MOVES.union(
    'Relu LeakyRelu Gelu Silu Elu Hardswish Hardtanh Mish Mean Sum Neg '
    'AvgPool2D AdaptiveAvgPool2D MkldnnAdaptiveAvgPool2D'.split()
)
_GATES = {'Sigmoid', 'Hardsigmoid', 'Tanh', 'Clamp'}


class Graph:
    """The operations that lead to what a run gave.

    Args:
        outputs (Iterable[Tensor]): What it gave.
    """

    def __init__(self, outputs: Iterable[Tensor]) -> None:
        # In the order of computation: an operation after what it takes.
        self.order: Dict[Op, int] = {}
        self.users: Dict[Op, List[Op]] = {}
        for output in outputs:
            if output.grad_fn is not None:
                self._walk(output.grad_fn)

    def _walk(self, last: Op) -> None:
        seen: Set[Op] = set(self.order)
        waiting = [(last, iter(operands(last)))] if last not in seen else []
        seen.add(last)
        while waiting:
            op, rest = waiting[-1]
            below = next(rest, None)
            if below is None:
                waiting.pop()
                self.order[op] = len(self.order)
            else:
                self.users.setdefault(below, []).append(op)
                if below not in seen:
                    seen.add(below)
                    waiting.append((below, iter(operands(below))))

    def above(self, op: Op, end: Any = None) -> Iterator[Op]:
        """An operation and all that it comes from, without what is behind
        those for which ``end`` is true.
        """
        seen, waiting = {op}, [op]
        while waiting:
            op = waiting.pop()
            yield op
            if end is not None and end(op):
                continue
            for below in operands(op):
                if below not in seen and below in self.order:
                    seen.add(below)
                    waiting.append(below)


def operands(op: Op) -> List[Op]:
    """What an operation takes, as far as it needs gradients."""
    return [below for below, _ in op.next_functions if below is not None]


def leaf(op: Op) -> Optional[Tensor]:
    """The tensor of a leaf, also where it was only moved around."""
    return getattr(unmoved(op), 'variable', None)


def kind(op: Op) -> str:
    """An operation's name: ``'Add'`` for ``AddBackward0``."""
    return op.name().split('::')[-1].partition('Backward')[0]


def is_gate(op: Op) -> bool:
    """Whether what it gives lies between two bounds."""
    return kind(op) in _GATES


def moves(op: Op) -> bool:
    """Whether it takes one tensor and moves or scales its elements."""
    return len(operands(op)) == 1 and kind(op) in _MOVES


def keeps_zero(op: Op) -> bool:
    """Whether it takes one tensor and gives 0 where that is 0."""
    return len(operands(op)) == 1 and kind(op) in _KEEPS_ZERO


def unmoved(op: Op) -> Op:
    """The operation whose result was moved only."""
    while moves(op):
        op = operands(op)[0]
    return op
