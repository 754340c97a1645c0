"""One dict of an ``init_cfg``: parsed, called, and what it reaches.

What it means is MMEngine's business: initializers are built from its
``WEIGHT_INITIALIZERS``, and ``override`` is left to its ``initialize``.
"""

import copy
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Tuple

import torch.nn as nn
from mmengine.model import BaseInit, initialize
from mmengine.registry import WEIGHT_INITIALIZERS

from ..errors import nearest, short
from ..initializers.layers import Identity, Orthogonal, layer_names


@dataclass(frozen=True, eq=False)
class InitItem:
    """One dict of a rule's ``init_cfg``, and the initializer built from it."""

    name: str  # how errors call it: 'init_cfg', or 'init_cfg[1]' in a list
    cfg: Dict[str, Any]
    initializer: Callable[[nn.Module], None]

    @property
    def whole(self) -> bool:
        """Whether it means the whole module: MMEngine's own ways to say which
        part of a module (``layer``, ``override``) are not used.
        """
        return 'override' not in self.cfg and not getattr(
            self.initializer, 'layer', None
        )

    @property
    def is_known(self) -> bool:
        """Whether it is one of MMEngine's own random or constant ones, or one
        of ours like them, of which it is known what they write.
        """
        kind = type(self.initializer)
        is_known = kind in (Identity, Orthogonal) or (
            issubclass(kind, BaseInit)
            and kind.__module__ == BaseInit.__module__
        )
        return is_known and 'override' not in self.cfg

    def __call__(self, module: nn.Module) -> None:
        """Write the values into a module, as ``initialize`` does."""
        if not self.whole and not self.is_known:
            initialize(module, self.cfg)
            return
        initializer = self.initializer
        if not self.is_known:
            # Unlike MMEngine's, it may be another after it was called.
            initializer = WEIGHT_INITIALIZERS.build(_copied(self.cfg))
        # As `initialize` treats an `override`, which is the only place where
        # MMEngine's initializers do anything without a `layer`.
        initializer.wholemodule = self.whole
        initializer(module)

    def __str__(self) -> str:
        kind = self.cfg['type']
        name = kind if isinstance(kind, str) else kind.__name__
        args = ', '.join(
            f'{key}={short(value)}'
            for key, value in self.cfg.items()
            if key != 'type'
        )
        return f'{name}({args})'


def parse_init_cfg(init_cfg: Any, problems: List[str]) -> Tuple[InitItem, ...]:
    """Check what a rule says under ``init_cfg``, and build its dicts; each
    thing that is wrong is added to the problems.
    """
    cfgs = as_tuple(init_cfg)
    if not cfgs or not all(isinstance(cfg, dict) for cfg in cfgs):
        problems.append(
            '`init_cfg` must be a dict or a list of dicts, as in '
            f'MMEngine, not {short(init_cfg)}'
        )
        return ()
    items = []
    for position, cfg in enumerate(cfgs):
        name = f'init_cfg[{position}]' if len(cfgs) > 1 else 'init_cfg'
        # `items()` of a config dict resolves what a pure-Python config
        # imports lazily.
        cfg = dict(cfg.items())
        overrides = as_tuple(cfg.get('override') or ())
        if not overrides:
            cfg.pop('override', None)
        if cfg.get('layer', 'all') == []:
            problems.append(f'{name}: `layer` is empty, so nothing is meant')
        arguments = {k: v for k, v in cfg.items() if k != 'override'}
        initializer = _build(name, arguments, problems)
        _check_overrides(name, overrides, problems)
        items.append(InitItem(name, cfg, initializer))
    return tuple(items)


def _check_overrides(
    name: str, overrides: Tuple[Any, ...], problems: List[str]
) -> None:
    for override in overrides:
        if not isinstance(override, dict) or 'name' not in override:
            problems.append(
                f'{name}: each `override` is a dict with the '
                f'`name` of an attribute, not {short(override)}'
            )
            continue
        arguments = dict(override.items())
        arguments.pop('name')
        if arguments:  # else it takes the arguments of the whole init_cfg
            _build(
                f'{name}, override {override["name"]!r}', arguments, problems
            )


def _build(name: str, cfg: Dict[str, Any], problems: List[str]) -> Any:
    """Build an initializer, to know now that it can be built."""
    kind = cfg.get('type')
    if not isinstance(kind, str) and not callable(kind):
        problems.append(
            f'{name}: `type` must name an initializer or be its '
            f'class, not {short(kind)}'
        )
        return None
    try:
        return WEIGHT_INITIALIZERS.build(_copied(cfg))
    except (TypeError, ValueError, KeyError, AssertionError) as error:
        text = str(error.args[0]) if error.args else repr(error)
        scope = cfg.get('_scope_')
        if isinstance(kind, str) and not _is_registered(kind, scope):
            text = (
                f'no initializer is registered as {kind!r}'
                f'{nearest(kind, _registered_names())}; an initializer of '
                'your own is registered when its module is in `custom_imports`'
            )
        problems.append(f'{name}: {" ".join(text.split())}')
        return None


def reached(item: InitItem, module: nn.Module) -> Optional[List[nn.Module]]:
    """Sub-modules whose ``weight`` and ``bias`` one of MMEngine's own
    initializers writes, by the same test that it makes.

    None where only running it can tell (``override``, ``Pretrained``,
    initializers of others).
    """
    if not item.is_known:
        return None
    wanted = set(item.initializer.layer)
    return [
        child
        for child in module.modules()
        if (item.whole or wanted.intersection(layer_names(child)))
        and has_values(child)
    ]


def has_values(module: nn.Module) -> bool:
    """Whether a module has a ``weight`` or a ``bias``."""
    return any(
        getattr(module, key, None) is not None for key in ('weight', 'bias')
    )


def _is_registered(kind: str, scope: Optional[str]) -> bool:
    # As `build` looks it up: in the registry of the default scope first.
    with WEIGHT_INITIALIZERS.switch_scope_and_registry(scope) as registry:
        return registry.get(kind) is not None


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
