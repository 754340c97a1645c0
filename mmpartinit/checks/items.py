"""What one dict of an ``init_cfg`` needs of the modules that it acts on."""

import os.path as osp
from collections import Counter
from typing import Any, List, NamedTuple, Sequence, Tuple

import torch.nn as nn
from mmengine.model import KaimingInit, PretrainedInit, XavierInit
from torch import Tensor

from ..errors import nearest, some
from ..initializers.layers import (
    Identity,
    InitWeights,
    Orthogonal,
    ResetParameters,
    has_init_weights,
    layer_names,
    no_identity,
    own_reset,
)
from ..rules.init_cfg import InitItem, has_values, reached
from ..rules.matching import BareParameter

Targets = Sequence[Tuple[str, nn.Module]]


class _Value(NamedTuple):
    """A ``weight`` or ``bias`` that is known to be written."""

    target: Tuple[str, nn.Module]
    owner: nn.Module
    key: str
    value: Any

    @property
    def is_weight(self) -> bool:
        return self.key == 'weight' and isinstance(self.value, Tensor)

    @property
    def name(self) -> str:
        path, module = self.target
        if isinstance(self.owner, BareParameter):
            return path
        names = {child: name for name, child in module.named_modules()}
        return '.'.join(filter(None, (path, names[self.owner], self.key)))


class _Case:
    """One dict of an ``init_cfg`` and what it acts on."""

    def __init__(self, item: InitItem, targets: Targets) -> None:
        self.item = item
        self.targets = targets
        self.reached = [reached(item, module) for _, module in targets]
        self.values = [
            _Value(target, child, key, value)
            for target, children in zip(targets, self.reached)
            for child in children or ()
            for key in ('weight', 'bias')
            for value in [getattr(child, key, None)]
            if value is not None
        ]
        self.weights = [value for value in self.values if value.is_weight]


def check_item(item: InitItem, targets: Targets, files: bool) -> List[str]:
    """What is wrong with a dict on the modules that it acts on, a sentence
    for each problem.
    """
    case = _Case(item, targets)
    checks = [c for c in _CHECKS if files or c is not _no_checkpoint]
    problems = filter(None, (check(case) for check in checks))
    return [f'{item.name} {item}: {problem}' for problem in problems]


def _reaches_nothing(case: _Case) -> str:
    if any(modules is None or modules for modules in case.reached):
        return ''
    targets = case.targets
    children = [child for _, m in targets for child in m.modules()]
    there = Counter(type(c).__name__ for c in children if has_values(c))
    if not there:
        return (
            'it initialises nothing: it writes `weight` and `bias`, and '
            f'nothing under {_some(targets)} has either'
        )
    if set(there) == {'BareParameter'}:
        return (
            f'it initialises nothing: {_some(targets)} is a parameter, '
            'and `layer` selects modules; leave `layer` out'
        )
    layers = case.item.initializer.layer
    known = {name for child in children for name in layer_names(child)}
    if known.intersection(layers):
        return (
            'it initialises nothing: it writes `weight` and `bias`, and '
            f'{" or ".join(layers)} has neither itself'
        )
    named = ' or '.join(
        repr(layer) + nearest(layer, sorted(known)) for layer in layers
    )
    listed = ', '.join(f'{kind} ({n})' for kind, n in there.most_common(8))
    return (
        f'it initialises nothing: no layer there is a {named}; there are '
        f'{listed}'
    )


def _no_tensor(case: _Case) -> str:
    """A ``weight`` may be computed (``weight_norm``), and a ``bias`` may be a
    flag (``nn.GRU``).
    """
    for value in case.values:
        if not isinstance(value.value, Tensor):
            return (
                f'{value.name} is a {type(value.value).__name__}, which '
                "MMEngine's initializers cannot write; name its parameters by "
                'path, or say with `layer` which layers to write'
            )
        owner, key = value.owner, value.key
        if key not in owner._parameters and key not in owner._buffers:
            return (
                f'{value.name} is computed from other parameters '
                '(`weight_norm` or the like), so writing it would change '
                'nothing; name those by path, or use Apply'
            )
    return ''


def _too_flat(case: _Case) -> str:
    """Xavier and Kaiming count inputs and outputs, and Orthogonal makes a
    matrix, so a weight must have at least two dimensions.
    """
    kinds = (XavierInit, KaimingInit, Orthogonal)
    if not isinstance(case.item.initializer, kinds):
        return ''
    flat = [value.name for value in case.weights if value.value.dim() < 2]
    if not flat:
        return ''
    return (
        f'it needs at least two dimensions, and {some(flat, 3)} have fewer; '
        'say with `layer` which layers it is for'
    )


def _no_identity(case: _Case) -> str:
    if not isinstance(case.item.initializer, Identity):
        return ''
    for value in case.weights:
        obstacle = no_identity(value.owner)
        if obstacle:
            return (
                f'{value.name}: {_kind(value.owner)} {obstacle}; say with '
                '`layer` or by path which layers it is for'
            )
    return ''


def _nothing_to_call(case: _Case) -> str:
    initializer = case.item.initializer
    if isinstance(initializer, InitWeights):
        name, needed = 'init_weights', has_init_weights
    elif isinstance(initializer, ResetParameters) and case.item.whole:
        name, needed = 'reset_parameters', _has_reset
    else:
        return ''
    without = [target for target in case.targets if not needed(target[1])]
    if not without:
        return ''
    return (
        f'{_some(without)} ({_kind(without[0][1])}) has no {name}() to call; '
        'give an init_cfg that says the values'
    )


def _has_reset(module: nn.Module) -> bool:
    return any(own_reset(child) for child in module.modules())


def _no_checkpoint(case: _Case) -> str:
    # Not when the rule is parsed: a run that only tests needs no such file.
    checkpoint = getattr(case.item.initializer, 'checkpoint', None)
    if (
        isinstance(case.item.initializer, PretrainedInit)
        and '://' not in checkpoint
        and not osp.isfile(osp.expanduser(checkpoint))
    ):
        return f'there is no checkpoint file {checkpoint!r}'
    return ''


def _no_such_attribute(case: _Case) -> str:
    overrides = case.item.cfg.get('override') or []
    for override in [overrides] if isinstance(overrides, dict) else overrides:
        name = override['name']
        without = [
            (path, module)
            for path, module in case.targets
            if not hasattr(module, name)
        ]
        if without:
            children = [key for key, _ in without[0][1].named_children()]
            return (
                f'`override` names {name!r}, and {_some(without)} has no '
                f'such attribute{nearest(name, children)}; it has '
                f'{", ".join(children) or "no modules in it"}'
            )
    return ''


_CHECKS = (
    _reaches_nothing,
    _no_tensor,
    _too_flat,
    _no_identity,
    _nothing_to_call,
    _no_checkpoint,
    _no_such_attribute,
)


def _kind(module: nn.Module) -> str:
    return type(module).__name__.replace('Bare', '')


def _some(targets: Targets) -> str:
    return some([path or 'the model' for path, _ in targets], 2)
