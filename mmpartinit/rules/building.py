"""An initializer built from its dict, or what is wrong with the dict."""

import copy
from inspect import signature
from typing import Any, Callable, Dict, List

import torch.nn as nn
from mmengine.model import PretrainedInit
from mmengine.registry import WEIGHT_INITIALIZERS

from ..errors import RuleError, nearest, short, told
from ..initializers.adapted import AdaptedPretrained


def wrong(message: str) -> RuleError:
    """An error of an init_cfg."""
    return RuleError.of('init-cfg', message)


def build(cfg: Dict[str, Any]) -> Callable[[nn.Module], None]:
    """Build an initializer, to know now that it can be built.

    Raises:
        RuleError: If it cannot, whatever its code raises.
    """
    kind = cfg.get('type')
    if not isinstance(kind, str) and not callable(kind):
        raise wrong(
            '`type` must name an initializer or be its class, not '
            f'{short(kind)}'
        )
    file = cfg.get('checkpoint', 'none')
    if not isinstance(file, str) or not file:
        raise wrong(
            '`checkpoint` must be the name of a file or a URL, not '
            f'{short(file)}'
        )
    try:
        initializer = WEIGHT_INITIALIZERS.build(copied(cfg))
    except Exception as error:  # anybody's code
        is_told = isinstance(error, (TypeError, ValueError, AssertionError))
        text = str(error) if is_told and str(error) else told(error)
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
        raise wrong(' '.join(text.split())) from error
    if not callable(initializer):
        raise wrong(
            f'{short(kind)} gives {short(initializer)}, which cannot be '
            'called with a module'
        )
    return initializer


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


def copied(cfg: Dict[str, Any]) -> Dict[str, Any]:
    """A copy whose dicts and lists an initializer may take apart."""
    return {
        key: copy.deepcopy(value) if isinstance(value, (dict, list)) else value
        for key, value in cfg.items()
    }
