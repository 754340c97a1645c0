"""One dict of an ``init_cfg``: parsed, called, and what it reaches.

What it means is MMEngine's business: initializers are built from its
``WEIGHT_INITIALIZERS``, and ``override`` is left to its ``initialize``.
"""

import copy
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from inspect import signature
from typing import Any, Callable, Dict, Iterable, Iterator, List, Tuple

import torch.nn as nn
from mmengine.model import PretrainedInit, initialize
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import Tensor

from ..errors import Collector, RuleError, nearest, short
from ..initializers.adapted import AdaptedPretrained
from ..initializers.traits import layer_names, reads, writes

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
                (override['name'], InitItem(self.name, own, _build(own)))
            )
        return steps

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
                initializer = WEIGHT_INITIALIZERS.build(_copied(self.cfg))
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
        raise _wrong(
            '`init_cfg` must be a dict or a list of dicts, as in MMEngine, '
            f'not {short(init_cfg)}'
        )
    wrong = Collector()
    items = []
    for position, cfg in enumerate(cfgs):
        name = f'init_cfg[{position}]' if len(cfgs) > 1 else 'init_cfg'
        # `items()` of a config dict resolves what a pure-Python config
        # imports lazily.
        cfg = dict(cfg.items())
        overrides = as_tuple(cfg.get('override') or ())
        if not overrides:
            cfg.pop('override', None)
        with wrong.gather(where=name):
            if cfg.get('layer', 'all') == []:
                raise _wrong('`layer` is empty, so nothing is meant')
            layers = as_tuple(cfg.get('layer') or ())
            if not all(isinstance(layer, str) for layer in layers):
                raise _wrong(
                    '`layer` must name classes, as a str or a list of str, '
                    f'not {short(cfg["layer"])}'
                )
        arguments = {k: v for k, v in cfg.items() if k != 'override'}
        with wrong.gather(where=name):
            items.append(InitItem(name, cfg, _build(arguments)))
        for override in overrides:
            with wrong.gather(where=name):
                _check_override(override)
    wrong.check()
    return tuple(items)


def _wrong(message: str) -> RuleError:
    return RuleError.of('init-cfg', message)


def _check_override(override: Any) -> None:
    if not isinstance(override, dict) or not isinstance(
        override.get('name'), str
    ):
        raise _wrong(
            'each `override` is a dict with the `name` of an attribute, not '
            f'{short(override)}'
        )
    arguments = dict(override.items())
    name = arguments.pop('name')
    try:
        if arguments:  # else it takes the arguments of the whole init_cfg
            _build(arguments)
    except RuleError as error:
        raise error.about(where=f'override {name!r}') from error


def _build(cfg: Dict[str, Any]) -> Any:
    """Build an initializer, to know now that it can be built."""
    kind = cfg.get('type')
    if not isinstance(kind, str) and not callable(kind):
        raise _wrong(
            '`type` must name an initializer or be its class, not '
            f'{short(kind)}'
        )
    if 'checkpoint' in cfg and not isinstance(cfg['checkpoint'], str):
        raise _wrong(
            '`checkpoint` must be the name of a file or a URL, not '
            f'{short(cfg["checkpoint"])}'
        )
    try:
        return WEIGHT_INITIALIZERS.build(_copied(cfg))
    except (TypeError, ValueError, KeyError, AssertionError) as error:
        text = str(error.args[0]) if error.args else repr(error)
        # As `build` looks it up: in the registry of the default scope first.
        scope = cfg.get('_scope_')
        with WEIGHT_INITIALIZERS.switch_scope_and_registry(scope) as registry:
            found = registry.get(kind) if isinstance(kind, str) else kind
        if found is None:
            text = (
                f'no initializer is registered as {kind!r}'
                f'{nearest(kind, _registered_names())}; an initializer of '
                'your own is registered when its module is in `custom_imports`'
            )
        elif isinstance(error, TypeError):
            text = _strange_keys(found, cfg) or text
        raise _wrong(' '.join(text.split())) from error


def _strange_keys(kind: Any, cfg: Dict[str, Any]) -> str:
    """Which arguments of an initializer there are not, and what there is."""
    makers = [
        vars(base).get('__init__') for base in getattr(kind, '__mro__', ())
    ]
    known = [k for maker in filter(None, makers) for k in _parameters(maker)]
    known = [k for k in dict.fromkeys(known) if k not in _NO_KEYS]
    strange = [key for key in cfg if key not in (*known, 'type', '_scope_')]
    if not strange or not known:
        return ''
    named = ', '.join(repr(key) + nearest(key, known) for key in strange)
    adapted = _parameters(AdaptedPretrained.__init__)
    if kind is PretrainedInit and set(strange) <= set(adapted):
        known[-1] += f'; AdaptedPretrained takes {", ".join(strange)} as well'
    start = f'{short(cfg["type"])} takes no {named}'
    return f'{start}; it takes {", ".join(known)}'


def _parameters(maker: Any) -> List[str]:
    try:
        return [*signature(maker).parameters]
    except (TypeError, ValueError):
        return []  # one of C's


# Of functions: no arguments that a config can name.
_NO_KEYS = ('self', 'args', 'kwargs', 'kwds')


def _registered_names() -> List[str]:
    registries = [WEIGHT_INITIALIZERS, *WEIGHT_INITIALIZERS.children.values()]
    return [name for registry in registries for name in registry.module_dict]


def as_tuple(value: Any) -> Tuple[Any, ...]:
    """The entries of a list, or of what may be written without one."""
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def _copied(cfg: Dict[str, Any]) -> Dict[str, Any]:
    """A copy whose dicts and lists an initializer may take apart."""
    return {
        key: copy.deepcopy(value) if isinstance(value, (dict, list)) else value
        for key, value in cfg.items()
    }
