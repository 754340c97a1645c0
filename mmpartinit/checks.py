"""What can be known of a rule on a model before anything is written."""

import os.path as osp
from collections import Counter
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import torch.nn as nn
from mmengine.model import KaimingInit, PretrainedInit, XavierInit
from torch import Tensor
from torch.nn.parameter import is_lazy

from .initializers import (
    Identity,
    InitWeights,
    Orthogonal,
    ResetParameters,
    layer_names,
    no_identity,
    own_reset,
)
from .matching import BareParameter, Match
from .rules import (
    InitItem,
    Rule,
    has_values,
    nearest,
    reached,
)
from .tree import Slot

Targets = Sequence[Tuple[str, nn.Module]]


class _Value(NamedTuple):
    """A ``weight`` or ``bias`` that is known to be written."""

    target: Tuple[str, nn.Module]
    owner: nn.Module
    key: str
    value: Any

    @property
    def name(self) -> str:
        path, module = self.target
        if isinstance(self.owner, BareParameter):
            return path
        names = {child: name for name, child in module.named_modules()}
        return '.'.join(filter(None, (path, names[self.owner], self.key)))


class _Case(NamedTuple):
    """One dict of an ``init_cfg`` and what it acts on."""

    item: InitItem
    targets: Targets
    reached: List[Optional[List[nn.Module]]]
    values: List[_Value]

    @property
    def weights(self) -> List[_Value]:
        """The weights alone."""
        return [
            value
            for value in self.values
            if value.key == 'weight' and isinstance(value.value, Tensor)
        ]

    @classmethod
    def of(cls, item: InitItem, targets: Targets) -> '_Case':
        found = [reached(item, module) for _, module in targets]
        values = [
            _Value(target, child, key, value)
            for target, children in zip(targets, found)
            for child in children or ()
            for key in ('weight', 'bias')
            for value in [getattr(child, key, None)]
            if value is not None
        ]
        return cls(item, targets, found, values)


def check_matches(
    rule: Rule, matches: Sequence[Match], files: bool = True
) -> List[str]:
    """Find what is wrong with a rule on what it acts on.

    Args:
        rule (Rule): The rule.
        matches (Sequence[Match]): Its matches.
        files (bool): Whether checkpoints that it names must be there.
            Defaults to True.

    Returns:
        list[str]: A sentence for each problem.
    """
    if matches and not any(match.new or match.kept for match in matches):
        kinds = sorted({type(match.node).__name__ for match in matches})
        return [
            f'{rule}: it matches {", ".join(m.path for m in matches[:3])} '
            f'({", ".join(kinds)}), and there are no parameters in there'
        ]
    acting = [match for match in matches if match.new]
    problems = _no_memory([slot for match in acting for slot in match.new])
    if not problems and rule.copy_from is not None:
        problems = _no_copies(acting)
    elif not problems and acting:
        targets = [(match.path, match.target) for match in acting]
        problems = _check_items(rule, targets, files)
    return [f'{rule}: {problem}' for problem in problems]


def _check_items(rule: Rule, targets: Targets, files: bool) -> List[str]:
    problems = []
    checks = [c for c in _CHECKS if files or c is not _no_checkpoint]
    for position, item in enumerate(rule.init_cfg):
        name = (
            f'init_cfg[{position}]' if len(rule.init_cfg) > 1 else 'init_cfg'
        )
        case = _Case.of(item, targets)
        for check in checks:
            problem = check(case)
            if problem:
                problems.append(f'{name} {item}: {problem}')
    return problems


def _no_copies(matches: Sequence[Match]) -> List[str]:
    """Shapes that differ from those of the source, and nothing in common."""
    shapes, problems = [], []
    for match in matches:
        copies, source = match.copies, match.rule.copy_from
        if match.sources and not copies:
            names = ', '.join(slot.name for slot in match.new[:3])
            problems.append(
                f'{source} has none of the new tensors of {match.path} '
                f'({names}, ...)'
            )
        if any(other.name == name for name, other in copies.items()):
            problems.append(f'{match.path} would be copied from itself')
        shapes += [
            f'{slot.name} {tuple(slot.tensor.shape)} and '
            f'{copies[slot.name].name} '
            f'{tuple(copies[slot.name].tensor.shape)}'
            for slot in match.new
            if slot.name in copies
            and copies[slot.name].tensor.shape != slot.tensor.shape
        ]
    if shapes:
        problems.append(
            f'shapes differ from those to copy: {"; ".join(shapes)}'
        )
    return problems


def _no_memory(slots: Sequence[Slot]) -> List[str]:
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
    parted = [s.name for s in slots if hasattr(s.tensor, 'full_tensor')]
    if parted:
        problems.append(
            f'{", ".join(parted)} are buffers that lie in parts (DTensor), '
            'which cannot be written; leave them out of the path'
        )
    return problems


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
            f'it initialises nothing: it writes `weight` and `bias`, and '
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
    more = f' and {len(flat) - 3} more' if len(flat) > 3 else ''
    return (
        'it needs at least two dimensions, and '
        f'{", ".join(flat[:3])}{more} have fewer; say with `layer` which '
        'layers it is for'
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


def _nothing_to_reset(case: _Case) -> str:
    if (
        not isinstance(case.item.initializer, ResetParameters)
        or not case.item.whole
    ):
        return ''
    without = [
        (path, module)
        for path, module in case.targets
        if not any(own_reset(child) for child in module.modules())
    ]
    if not without:
        return ''
    return (
        f'{_some(without)} ({_kind(without[0][1])}) has no reset_parameters() '
        'to call; give an init_cfg that says the values'
    )


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


def _no_init_weights(case: _Case) -> str:
    if not isinstance(case.item.initializer, InitWeights):
        return ''
    without = [
        (path, module)
        for path, module in case.targets
        if not callable(getattr(module, 'init_weights', None))
    ]
    if not without:
        return ''
    return (
        f'{_some(without)} ({_kind(without[0][1])}) has no init_weights() to '
        'call; give an init_cfg that says the values'
    )


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
    _nothing_to_reset,
    _no_checkpoint,
    _no_init_weights,
    _no_such_attribute,
)


def _kind(module: nn.Module) -> str:
    return type(module).__name__.replace('Bare', '')


def _some(targets: Targets) -> str:
    paths = [path or 'the model' for path, _ in targets]
    more = f' and {len(paths) - 2} more' if len(paths) > 2 else ''
    return ', '.join(paths[:2]) + more
