"""One dict of an ``init_cfg``: parsed, called, and what it reaches.

What it means is MMEngine's business: initializers are built from its
``WEIGHT_INITIALIZERS``, and ``override`` is left to its ``initialize``.
"""

from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Callable, Dict, Iterable, Iterator, List, Tuple

import torch.nn as nn
from mmengine.model import initialize
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import Tensor

from ..errors import Collector, RuleError, short
from ..initializers.traits import checkpoint_of, layer_names, reads, writes
from .building import build, copied, wrong

LayerKeys = Tuple[nn.Module, Tuple[str, ...]]


@dataclass(frozen=True, eq=False)
class InitItem:
    """One dict of a rule's ``init_cfg``, and the initializer built from it.

    Attributes:
        name (str): How errors call it: ``'init_cfg'``, or ``'init_cfg[1]'``
            in a list.
        cfg (dict): The dict.
        initializer (Callable): What was built from it.
    """

    name: str
    cfg: Dict[str, Any]
    initializer: Callable[[nn.Module], None]

    @cached_property
    def whole(self) -> bool:
        """Whether it means the whole module: MMEngine's own ways to say which
        part of a module (``layer``, ``override``) are not used.
        """
        return 'override' not in self.cfg and not self.layers

    @cached_property
    def layers(self) -> List[str]:
        """The names that it gives under ``layer``."""
        return getattr(self.initializer, 'layer', None) or []

    @cached_property
    def writes(self) -> Tuple[str, ...]:
        """Attributes of layers that it writes; none where only running it can
        tell what it does (``override``, ``Pretrained``, initializers of
        others).
        """
        return () if 'override' in self.cfg else writes(self.initializer)

    @cached_property
    def reads(self) -> bool:
        """Whether it may read what it writes to."""
        return not self.writes or reads(self.initializer)

    def steps(self) -> List[Tuple[str, 'InitItem']]:
        """What ``initialize`` does for it, one by one: with the module
        itself (``''``), and with the attribute that each ``override`` names.
        """
        if 'override' not in self.cfg:
            return [('', self)]
        cfg = {k: v for k, v in self.cfg.items() if k != 'override'}
        steps = [('', replace(self, cfg=cfg))] if self.layers else []
        for override in as_tuple(self.cfg['override']):
            own = {k: v for k, v in override.items() if k != 'name'} or cfg
            # It means the whole of its part, whatever `layer` says.
            own = {k: v for k, v in own.items() if k != 'layer'}
            steps.append(
                (override['name'], InitItem(self.name, own, build(own)))
            )
        return steps

    @cached_property
    def files(self) -> List[str]:
        """Files and URLs that it loads."""
        steps = [self, *(step for _, step in self.steps())]
        files = [checkpoint_of(step.initializer) for step in steps]
        return list(dict.fromkeys(filter(None, files)))

    def layers_in(self, module: nn.Module) -> List[nn.Module]:
        """Sub-modules that it writes to."""
        return [m for m in self._called(module) if has_values(m, self.writes)]

    def _called(self, module: nn.Module) -> List[nn.Module]:
        """Sub-modules that it is for, by the test that MMEngine makes."""
        wanted, children = set(self.layers), list(module.modules())
        if not wanted:
            return children
        return [m for m in children if not wanted.isdisjoint(layer_names(m))]

    def __call__(self, module: nn.Module) -> None:
        """Write the values into a module, as ``initialize`` does."""
        with _tensors_only(self._called_with(module)):
            if not (self.writes or self.whole):
                initialize(module, self.cfg)
                return
            initializer: Any = self.initializer
            if not self.writes:
                # Unlike MMEngine's, it may be another after it was called.
                initializer = WEIGHT_INITIALIZERS.build(copied(self.cfg))
            # As `initialize` treats an `override`, which is the only place
            # where MMEngine's initializers do anything without a `layer`.
            initializer.wholemodule = self.whole
            initializer(module)

    def _called_with(self, module: nn.Module) -> Iterator[LayerKeys]:
        """Layers that it is for, and attributes that it writes there."""
        for name, step in self.steps():
            part = getattr(module, name, None) if name else module
            if step.writes and isinstance(part, nn.Module):
                yield from ((m, step.writes) for m in step._called(part))

    def __str__(self) -> str:
        kind = self.cfg['type']
        name = kind if isinstance(kind, str) else kind.__name__
        args = ', '.join(
            f'{key}={short(value)}'
            for key, value in self.cfg.items()
            if key != 'type'
        )
        return f'{name}({args})'


def has_values(module: nn.Module, keys: Tuple[str, ...]) -> bool:
    """Whether a module has a tensor under one of the keys, other than what
    its state dict leaves out.
    """
    return any(
        isinstance(getattr(module, key, None), Tensor)
        and key not in module._non_persistent_buffers_set
        for key in keys
    )


@contextmanager
def _tensors_only(layers: Iterable[LayerKeys]) -> Iterator[None]:
    """Hide what is a number or a name (a hard sigmoid's ``bias``), or in no
    state dict (an attention's mask), from initializers, which write whatever
    is not None.
    """
    hidden = {
        (layer, key): vars(layer).get(key, layer)
        for layer, keys in layers
        for key in keys
        if getattr(layer, key, None) is not None
        and not has_values(layer, (key,))
    }
    for layer, key in hidden:
        vars(layer)[key] = None
    try:
        yield
    finally:
        for (layer, key), value in hidden.items():
            vars(layer)[key] = value
            if value is layer:  # an attribute of the class, or a buffer
                del vars(layer)[key]


def parse_init_cfg(init_cfg: Any) -> Tuple[InitItem, ...]:
    """Check what a rule says under ``init_cfg``, and build its dicts.

    Raises:
        RuleError: With everything that is wrong in any of them.
    """
    cfgs = as_tuple(init_cfg)
    if not cfgs or not all(isinstance(cfg, dict) for cfg in cfgs):
        raise wrong(
            '`init_cfg` must be a dict or a list of dicts, as in MMEngine, '
            f'not {short(init_cfg)}'
        )
    problems = Collector()
    items = []
    for position, cfg in enumerate(cfgs):
        name = f'init_cfg[{position}]' if len(cfgs) > 1 else 'init_cfg'
        # `items()` of a config dict resolves what a pure-Python config
        # imports lazily.
        cfg = dict(cfg.items())
        overrides = as_tuple(cfg.get('override') or ())
        if not overrides:
            cfg.pop('override', None)
        with problems.gather(where=name):
            if cfg.get('layer', 'all') == []:
                raise wrong('`layer` is empty, so nothing is meant')
            layers = as_tuple(cfg.get('layer') or ())
            if not all(isinstance(layer, str) for layer in layers):
                raise wrong(
                    '`layer` must name classes, as a str or a list of str, '
                    f'not {short(cfg["layer"])}'
                )
        arguments = {k: v for k, v in cfg.items() if k != 'override'}
        with problems.gather(where=name):
            items.append(InitItem(name, cfg, build(arguments)))
        for override in overrides:
            with problems.gather(where=name):
                _check_override(override)
    problems.check()
    return tuple(items)


def _check_override(override: Any) -> None:
    if not isinstance(override, dict) or not isinstance(
        override.get('name'), str
    ):
        raise wrong(
            'each `override` is a dict with the `name` of an attribute, not '
            f'{short(override)}'
        )
    arguments = dict(override.items())
    name = arguments.pop('name')
    try:
        if arguments:  # else it takes the arguments of the whole init_cfg
            build(arguments)
    except RuleError as error:
        raise error.about(where=f'override {name!r}') from error


def as_tuple(value: Any) -> Tuple[Any, ...]:
    """The entries of a list, or of what may be written without one."""
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)
