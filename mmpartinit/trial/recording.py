"""What the parts of a network give in a pass, as much of it as is compared."""

from contextlib import ExitStack
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

from .network import Network, floating
from .parts import Part

# Of a larger output, so many places tell how far it is from another one: what
# is kept of a detector's pass must fit beside it.
_MOST = 2**17


class Sample(NamedTuple):
    """An output, or some of its elements, always the same ones."""

    shape: Tuple[int, ...]
    values: Tensor


class Recording(NamedTuple):
    """What was seen in a pass.

    Attributes:
        calls (dict[str, list[list[Sample]]]): The outputs of each part, for
            each time that it was called; in the order in which they first
            gave something.
        output (list[Sample]): What the network gave.
        order (list[str]): The parts, and the new modules between them, in the
            order in which they first gave something.
    """

    calls: Dict[str, List[List[Sample]]]
    output: List[Sample]
    order: List[str]


def record(
    network: Network, parts: Sequence[Part], new: Sequence[Part] = ()
) -> Recording:
    """Run a network once, in eval mode and without gradients, and keep what
    its parts give; of new modules, only when.
    """
    calls: Dict[str, List[List[Sample]]] = {}
    order: Dict[str, None] = {}

    def hook_of(path: str, is_new: bool) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            order.setdefault(path)
            if not is_new:
                # At once: what comes next may write to it.
                calls.setdefault(path, []).append(_samples(output))

        return hook

    with ExitStack() as stack, torch.no_grad():
        for part in [*parts, *new]:
            hook = hook_of(part.path, part in new)
            stack.enter_context(part.module.register_forward_hook(hook))
        return Recording(calls, _samples(network.run()), list(order))


def drift(ours: Sequence[Sample], base: Sequence[Sample]) -> Optional[float]:
    """How far outputs are from others, in the norm of those: ``nan`` where
    only ours are not finite, None where they cannot be compared, since they
    have other shapes or the others are not finite.
    """
    if [s.shape for s in ours] != [s.shape for s in base] or not base:
        return None
    pairs = [
        (a.values.double(), b.values.double()) for a, b in zip(ours, base)
    ]
    norm = _norm([b for _, b in pairs])
    if norm != norm or norm == float('inf'):
        return None
    distance = _norm([a - b for a, b in pairs])
    if norm:
        return distance / norm
    return float('inf') if distance else 0.0


def _norm(values: List[Tensor]) -> float:
    return sum(float(v.square().sum()) for v in values) ** 0.5


def _samples(output: Any) -> List[Sample]:
    return [_sample(tensor.detach()) for tensor in floating(output)]


def _sample(tensor: Tensor) -> Sample:
    flat = tensor.reshape(-1)
    if flat.numel() <= _MOST:
        return Sample(tuple(tensor.shape), flat.clone())
    generator = torch.Generator().manual_seed(0)
    places = torch.randint(flat.numel(), (_MOST,), generator=generator)
    return Sample(tuple(tensor.shape), flat[places.to(flat.device)])
