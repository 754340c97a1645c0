"""What can be known of a rule on a model before anything is written."""

from collections import Counter
from typing import List, Sequence, Tuple

import torch.nn as nn
from mmengine.model import KaimingInit, XavierInit
from torch.nn.parameter import is_lazy

from .initializers import InitWeights
from .paths import Slot
from .rules import InitItem, Rule, layer_names, nearest, reached

Targets = Sequence[Tuple[str, nn.Module]]


def check_items(rule: Rule, targets: Targets) -> List[str]:
    """Find what is wrong with a rule's init_cfg on what the rule acts on.

    Args:
        rule (Rule): The rule.
        targets (Sequence[tuple[str, nn.Module]]): Path of each match, and the
            module that the initializers would be called with.

    Returns:
        list[str]: A sentence for each problem.
    """
    problems = []
    for position, item in enumerate(rule.init_cfg):
        name = (
            f'init_cfg[{position}]' if len(rule.init_cfg) > 1 else ('init_cfg')
        )
        for problem in (
            _reaches_nothing(item, targets),
            _too_flat(item, targets),
            _no_init_weights(item, targets),
            _no_such_attribute(item, targets),
        ):
            if problem:
                problems.append(f'{name} {item}: {problem}')
    return problems


def check_tensors(slots: Sequence[Slot]) -> List[str]:
    """Find tensors that hold no values that could be written."""
    problems = []
    lazy = [slot.name for slot in slots if is_lazy(slot.tensor)]
    if lazy:
        problems.append(
            f'{", ".join(lazy)} of lazy modules have no shape '
            'yet; run the model once before training starts'
        )
    meta = [slot.name for slot in slots if slot.tensor.is_meta]
    if meta:
        problems.append(
            f'{", ".join(meta)} are on the meta device, without '
            'memory; materialize them first (`to_empty`)'
        )
    return problems


def _reaches_nothing(item: InitItem, targets: Targets) -> str:
    found = [reached(item, module) for _, module in targets]
    if any(modules is None or modules for modules in found):
        return ''
    there = Counter(
        type(child).__name__
        for _, module in targets
        for child in module.modules()
        if _has_values(child)
    )
    if not there:
        return (
            'it initialises nothing: it writes `weight` and `bias`, and '
            f'nothing under {_some(targets)} has either'
        )
    listed = ', '.join(f'{kind} ({n})' for kind, n in there.most_common(8))
    if set(there) == {'_Parameter'}:
        return (
            f'it initialises nothing: {_some(targets)} is a parameter, '
            'and `layer` selects modules; leave `layer` out'
        )
    layer = item.cfg['layer']
    layers = [layer] if isinstance(layer, str) else layer
    known = {
        name
        for _, module in targets
        for child in module.modules()
        for name in layer_names(child)
    }
    hint = nearest(layers[0], sorted(known)) if len(layers) == 1 else ''
    return (
        f'it initialises nothing: no layer there is a {layer!r}{hint}; '
        f'there are {listed}'
    )


def _too_flat(item: InitItem, targets: Targets) -> str:
    """Xavier and Kaiming count inputs and outputs, so a weight must have at
    least two dimensions.
    """
    if not isinstance(item.initializer, (XavierInit, KaimingInit)):
        return ''
    flat = []
    for path, module in targets:
        names = {child: name for name, child in module.named_modules()}
        for child in reached(item, module) or []:
            weight = getattr(child, 'weight', None)
            if weight is not None and weight.dim() < 2:
                flat.append(
                    path
                    if isinstance(child, _Parameter)
                    else '.'.join(filter(None, (path, names[child], 'weight')))
                )
    if not flat:
        return ''
    more = f' and {len(flat) - 3} more' if len(flat) > 3 else ''
    return (
        'it needs at least two dimensions, and '
        f'{", ".join(flat[:3])}{more} have fewer; say with `layer` which '
        'layers it is for'
    )


def _no_init_weights(item: InitItem, targets: Targets) -> str:
    if not isinstance(item.initializer, InitWeights):
        return ''
    without = [
        (path, module)
        for path, module in targets
        if not callable(getattr(module, 'init_weights', None))
    ]
    if not without:
        return ''
    kind = type(without[0][1]).__name__.lstrip('_')
    return (
        f'{_some(without)} ({kind}) has no init_weights() to call; give '
        'an init_cfg that says the values'
    )


def _no_such_attribute(item: InitItem, targets: Targets) -> str:
    overrides = item.cfg.get('override') or []
    for override in [overrides] if isinstance(overrides, dict) else overrides:
        name = override['name']
        without = [
            (path, module)
            for path, module in targets
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


class _Parameter(nn.Module):
    """Stands for a bare parameter, as a module whose ``weight`` it is."""

    def __init__(self, parameter: nn.Parameter) -> None:
        super().__init__()
        self.weight = parameter


def as_module(node) -> nn.Module:
    """What an initializer is called with for a module or a parameter.

    MMEngine's initializers write a module's ``weight``; a bare parameter is
    given to them as the ``weight`` of a module that has nothing else.
    """
    return node if isinstance(node, nn.Module) else _Parameter(node)


def _has_values(module: nn.Module) -> bool:
    return (
        getattr(module, 'weight', None) is not None
        or getattr(module, 'bias', None) is not None
    )


def _some(targets: Targets) -> str:
    paths = [path or 'the model' for path, _ in targets]
    more = f' and {len(paths) - 2} more' if len(paths) > 2 else ''
    return ', '.join(paths[:2]) + more
