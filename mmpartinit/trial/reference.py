"""A network as it was without its new parts: these give what is harmless."""

from contextlib import ExitStack, contextmanager
from typing import Any, Dict, Iterable, Iterator, List

import torch
import torch.nn as nn
from torch import Tensor

from ..model.tree import Node
from .calls import with_first
from .network import floating
from .places import INPUT, LAYER, ONE, OPEN, ZERO, Place, layer_class

# Where sigmoid and the like are 1.
_FAR = 20.0
_VALUES = {ZERO: 0.0, ONE: 1.0, OPEN: _FAR}


@contextmanager
def without(places: Iterable[Place]) -> Iterator[None]:
    """Have places of a network give what is harmless there, whatever their
    parameters hold; those of which that is not known are left as they are.
    """
    with ExitStack() as stack:
        for place in places:
            if place.use == INPUT:
                stack.enter_context(_passing_on(place))
            elif place.use == LAYER:
                stack.enter_context(_by_layer(place))
            elif place.use:
                for end in place.ends:
                    value = _VALUES[place.use]
                    stack.enter_context(_giving(end, value))
        yield


@contextmanager
def _giving(end: Node, value: float) -> Iterator[None]:
    part = end.value
    if isinstance(part, Tensor):
        kept = part.detach().clone()
        part.data.fill_(value)
        try:
            yield
        finally:
            part.data.copy_(kept)
        return

    def after(_: nn.Module, __: Any, output: Any) -> Any:
        return with_first(output, lambda t: torch.full_like(t, value))

    with part.register_forward_hook(after):
        yield


@contextmanager
def _passing_on(place: Place) -> Iterator[None]:
    """Have a place give what it takes."""
    taken: List[Tensor] = []
    parts = [n.value for n in place.nodes if isinstance(n.value, nn.Module)]

    def before(_: nn.Module, args: Any, kwargs: Any) -> None:
        # The first part that is called has it; clones, for what is in place.
        if not taken:
            taken.extend(t.clone() for t in floating([args, kwargs]))

    def after(_: nn.Module, __: Any, output: Any) -> Any:
        given = taken[0]
        taken.clear()
        return with_first(output, lambda t: given)

    with ExitStack() as stack:
        for part in parts:
            add = part.register_forward_pre_hook
            stack.enter_context(add(before, with_kwargs=True))
        for end in place.ends:
            stack.enter_context(end.value.register_forward_hook(after))
        yield


@contextmanager
def _by_layer(place: Place) -> Iterator[None]:
    """Have a wrapper give what the layer in it does."""
    part, layer = place.ends[0].value, place.wraps
    base = layer_class(part)
    given: Dict[str, Any] = {}

    def after(_: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        if base is not None and layer is part:
            return base.forward(part, *args, **kwargs)
        return given.pop('output')

    def keep(_: nn.Module, __: Any, output: Any) -> None:
        given['output'] = output

    with ExitStack() as stack:
        if layer is not None and layer is not part:
            stack.enter_context(layer.register_forward_hook(keep))
        hook = part.register_forward_hook(after, with_kwargs=True)
        stack.enter_context(hook)
        yield
