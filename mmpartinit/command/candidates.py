"""Starts with which a block may leave a pretrained network as it is."""

from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

import torch.nn as nn
from torch import Tensor

from ..errors import some
from ..model.tree import ModelTree, Node
from ..trial.places import INPUT, ONE, Place
from ..trial.trial import Outcome
from .starts import InitCfg, layers_of
from .trying import percent

# Biases with which a gate is open and still learns: a hard sigmoid is flat
# from 3 on.
_OPENING = dict(Sigmoid=4.0, Hardsigmoid=2.9, Clamp=2.9, Tanh=2.0)
# Small, so that a ReLU behind it has a gradient.
_ABOVE_ZERO = (0.01, 1e-3, 1e-4)


class Candidate(NamedTuple):
    """A start of a place.

    Attributes:
        title (str): What it does.
        starts (dict[str, InitCfg]): An init_cfg for each layer or bare
            parameter that it is about, by path.
    """

    title: str
    starts: Dict[str, InitCfg]


def candidates(place: Place, tree: ModelTree) -> Iterator[Candidate]:
    """Starts of a place, in the order in which they are to be tried."""
    last = place.last
    if last:
        zero = {path: _constant(0.0, path, tree) for path in last}
        yield Candidate('Its last layer starts at 0.', zero)
        if place.rectified:
            for bias in _ABOVE_ZERO:
                starts = {p: _constant(0.0, p, tree, bias) for p in last}
                yield Candidate(
                    'Its last layer starts at almost 0: at 0, nothing '
                    'behind its ReLU would learn.',
                    starts,
                )
    if place.gates and not shut(place, tree):
        yield Candidate('Its gate starts open.', _gated(place, tree, 1.0))
        if all(gate.kind != 'Tanh' for gate in place.gates):
            shut_off = _gated(place, tree, -1.0)
            yield Candidate('Its gate starts closed.', shut_off)
    factors = place.factors or (last if place.use == ONE else [])
    if factors:
        starts = {path: _constant(0.0, path, tree) for path in last}
        starts.update((path, _as_one(path, tree)) for path in factors)
        yield Candidate('It starts as a factor of 1.', starts)
    square = squares(place)
    if place.use == INPUT and square:
        starts = {path: dict(type='Identity') for path in square}
        yield Candidate('It starts as the identity.', starts)


def _gated(place: Place, tree: ModelTree, sign: float) -> Dict[str, InitCfg]:
    starts = {path: _constant(0.0, path, tree) for path in place.last}
    for gate in place.gates:
        bias = sign * _OPENING[gate.kind] / gate.times
        for path in gate.layers:
            starts[path] = _constant(0.0, path, tree, bias)
    return starts


def advised(
    node: Node, place: Optional[Place], tree: ModelTree
) -> Optional[Tuple[str, InitCfg, str]]:
    """A start of a block of which nothing could be tried, if it is added to
    features or multiplied with them: its layer, seen from the block, an
    init_cfg, and what it is for. None where it has one layer only.
    """
    if not isinstance(node.value, nn.Module):
        return None
    layers = [name for _, name, _ in layers_of(node.value)]
    if len(layers) < 2:
        return None
    path = '.'.join(filter(None, (node.path, layers[-1])))
    kinds = [type(part).__name__ for part in node.value.modules()]
    bounds = [_OPENING[kind] for kind in kinds if kind in _OPENING]
    if place is not None and len(place.last) == 1:
        path = place.last[0]
        bounds = [_OPENING[g.kind] for g in place.gates if g.layers == [path]]
    if not f'{path}.'.startswith(f'{node.path}.'):
        return None
    start = _constant(0.0, path, tree, bounds[-1] if bounds else 0.0)
    text = (
        'Uncomment this to start at 0, which suits a block whose output is '
        'added to features; where they are multiplied with its sigmoid, add '
        'bias=4.0.'
    )
    if 'bias' in start:
        text = 'Uncomment this to start with an open gate.'
    return path[len(node.path) + 1 :], start, text


def why_none(place: Place, tree: ModelTree, best: Outcome) -> str:
    """What to say of a place for which no start is neutral, and what came of
    the best of them.
    """
    least = f'the best changes them by {percent(best.drift)}'
    if best.failed:
        least = f'the network does not run with them ({best.failed})'
    elif best.is_harmless:
        least = 'with the best, part of it does not learn, or not for long'
    text = (
        'Left as built. Tried: none of the starts leaves later parts as they '
        f'were; {least}.'
    )
    closed = shut(place, tree)
    if closed:
        return (
            f'{text} Build {some(closed, 2)} with a bias, which can open the '
            'gate.'
        )
    if place.use == INPUT:
        text += (
            ' It stands in the way of features: if it replaces something, '
            'start from the weights of that by a Pretrained rule.'
        )
    return text


def shut(place: Place, tree: ModelTree) -> List[str]:
    """Layers that have no bias to open a gate with."""
    return [
        path
        for gate in place.gates
        for path in gate.layers
        if not _has_bias(tree.index[path].value)
    ]


def squares(place: Place) -> List[str]:
    """Paths of all convolutions and linear layers, if each of them can pass on
    what it takes.
    """
    found = []
    for node in place.nodes:
        for name, layer in _layers(node.value):
            inputs = getattr(layer, 'in_channels', None)
            outputs = getattr(layer, 'out_channels', None)
            if isinstance(layer, nn.Linear):
                inputs, outputs = layer.in_features, layer.out_features
            if inputs is None or inputs != outputs:
                return []
            found.append('.'.join(filter(None, (node.path, name))))
    return found


def _layers(part: Any) -> Iterator[Any]:
    for name, layer in getattr(part, 'named_modules', list)():
        weight = layer._parameters.get('weight')
        if weight is not None and weight.dim() > 1:
            yield name, layer


def _has_bias(part: Any) -> bool:
    return isinstance(getattr(part, 'bias', None), Tensor)


def _as_one(path: str, tree: ModelTree) -> InitCfg:
    """What makes a bare parameter 1, or what a layer gives."""
    part = tree.index[path].value
    is_layer = isinstance(part, nn.Module) and _has_bias(part)
    return _constant(float(not is_layer), path, tree, float(is_layer))


def _constant(
    val: float, path: str, tree: ModelTree, bias: float = 0.0
) -> InitCfg:
    part = tree.index[path].value
    if isinstance(part, Tensor):
        return dict(type='Constant', val=val if val else bias)
    start: InitCfg = dict(type='Constant', val=val)
    return dict(start, bias=bias) if bias and _has_bias(part) else start
