"""One rule of the config, parsed and checked before anything is built on it.

Everything that can be wrong with a rule without knowing the model is said
here, for all rules in one error.
"""

import copy
import difflib
import re
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import torch.nn as nn
from mmengine.model import BaseInit, initialize
from mmengine.registry import WEIGHT_INITIALIZERS

from .initializers import Identity, Orthogonal, layer_names
from .paths import PathError, parse_pattern

_KEYS = ('path', 'init_cfg', 'copy_from', 'overwrite', 'optional')


class RuleError(ValueError):
    """Rules that cannot be carried out; the message lists every problem."""

    @classmethod
    def of(cls, problems: Sequence[str]) -> 'RuleError':
        """One error for all that was found."""
        if len(problems) == 1:
            return cls(problems[0])
        return cls(
            f'{len(problems)} problems in `modules`:'
            + ''.join(f'\n- {problem}' for problem in problems)
        )


@dataclass(frozen=True, eq=False)
class InitItem:
    """One dict of a rule's ``init_cfg``, and the initializer built from it."""

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
    def is_mmengines(self) -> bool:
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
        if not self.whole and not self.is_mmengines:
            initialize(module, self.cfg)
            return
        initializer = self.initializer
        if not self.is_mmengines:
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
            f'{key}={_short(value)}'
            for key, value in self.cfg.items()
            if key != 'type'
        )
        return f'{name}({args})'


@dataclass(frozen=True, eq=False)
class Rule:
    """One entry of ``modules``.

    Attributes:
        index (int): Its place in the list, from 0.
        paths (tuple[str, ...]): The patterns as written.
        alternatives (tuple): The patterns parsed, one entry for each.
        init_cfg (tuple[InitItem, ...]): What to write, in order.
        copy_from (str, optional): Or the path of what to copy.
        overwrite (bool): Whether loaded tensors are written too.
        optional (bool): Whether it may match nothing.
    """

    index: int
    paths: Tuple[str, ...]
    alternatives: Tuple[List[Tuple[str, ...]], ...]
    init_cfg: Tuple[InitItem, ...] = ()
    copy_from: Optional[str] = None
    overwrite: bool = False
    optional: bool = False

    def __str__(self) -> str:
        paths = self.paths[0] if len(self.paths) == 1 else list(self.paths)
        return f'rule {self.index} (path {paths!r})'


def parse_rules(modules: Sequence[Dict[str, Any]]) -> List[Rule]:
    """Check the rules and build their initializers.

    Args:
        modules (list[dict]): The rules as the config gives them.

    Returns:
        list[Rule]: In the same order.

    Raises:
        RuleError: With everything that is wrong in any of them.
    """
    rules, problems = read_rules(modules)
    if problems:
        raise RuleError.of(problems)
    return rules


def read_rules(
    modules: Sequence[Dict[str, Any]], first: int = 0
) -> Tuple[List[Rule], List[str]]:
    """:func:`parse_rules` that gives the problems instead of raising them.

    Args:
        modules (list[dict]): The rules as the config gives them.
        first (int): Index of the first of them. Defaults to 0.

    Returns:
        tuple[list[Rule], list[str]]: The rules that have no problem, and a
        sentence for each problem of the others.
    """
    if not isinstance(modules, (list, tuple)):
        problem = (
            '`modules` must be a list of rules, such as '
            "[dict(path='neck.adapter', init_cfg=dict(...))], "
            f'not {_short(modules)}'
        )
        return [], [problem]
    rules, problems = [], []
    for index, cfg in enumerate(modules, first):
        found: List[str] = []
        rule = _parse_rule(index, cfg, found)
        path = cfg.get('path') if isinstance(cfg, dict) else None
        where = f'rule {index}' + (f' (path {path!r})' if path else '')
        problems += [f'{where}: {problem}' for problem in found]
        if rule is not None:
            rules.append(rule)
    return rules, problems


def _parse_rule(
    index: int, cfg: Dict[str, Any], problems: List[str]
) -> Optional[Rule]:
    if not isinstance(cfg, dict):
        problems.append(
            'a rule is a dict with `path` and `init_cfg` or `copy_from`, not '
            f'{_short(cfg)}'
        )
        return None
    for key in cfg:
        if key not in _KEYS:
            problems.append(
                f'unknown key {key!r}{nearest(key, _KEYS)}; the '
                f'keys are {", ".join(_KEYS)}'
            )
    if 'path' not in cfg:
        problems.append('`path` is missing')
    if 'init_cfg' not in cfg and 'copy_from' not in cfg:
        problems.append('`init_cfg` is missing, or `copy_from`')
    if 'init_cfg' in cfg and 'copy_from' in cfg:
        problems.append(
            '`init_cfg` and `copy_from` exclude each other; write two rules, '
            'of which the later wins'
        )
    flags = {key: cfg.get(key, False) for key in ('overwrite', 'optional')}
    for key, value in flags.items():
        if not isinstance(value, bool):
            problems.append(
                f'`{key}` must be True or False, not {_short(value)}'
            )
    paths = _as_tuple(cfg.get('path', ()))
    alternatives = _parse_paths(paths, problems) if 'path' in cfg else ()
    items = (
        _parse_init_cfg(cfg['init_cfg'], problems) if 'init_cfg' in cfg else ()
    )
    source = cfg.get('copy_from')
    if 'copy_from' in cfg and not _is_plain(source):
        problems.append(
            '`copy_from` must be the path of one module or parameter, without '
            f'wildcards, not {_short(source)}'
        )
    if problems:
        return None
    return Rule(index, paths, alternatives, items, source, **flags)


def _is_plain(path: Any) -> bool:
    return (
        isinstance(path, str)
        and bool(path)
        and not re.search(r'[\s*?{}\[\]]', path)
    )


def _parse_paths(
    paths: Tuple[Any, ...], problems: List[str]
) -> Tuple[List[Tuple[str, ...]], ...]:
    if not paths or not all(isinstance(path, str) for path in paths):
        problems.append(
            f'`path` must be a str or a list of str, not {_short(list(paths))}'
        )
        return ()
    alternatives = []
    for path in paths:
        try:
            alternatives.append(parse_pattern(path))
        except PathError as error:
            problems.append(str(error))
    return tuple(alternatives)


def _parse_init_cfg(
    init_cfg: Any, problems: List[str]
) -> Tuple[InitItem, ...]:
    cfgs = _as_tuple(init_cfg)
    if not cfgs or not all(isinstance(cfg, dict) for cfg in cfgs):
        problems.append(
            '`init_cfg` must be a dict or a list of dicts, as in '
            f'MMEngine, not {_short(init_cfg)}'
        )
        return ()
    items = []
    for position, cfg in enumerate(cfgs):
        name = f'init_cfg[{position}]' if len(cfgs) > 1 else 'init_cfg'
        # `items()` of a config dict resolves what a pure-Python config
        # imports lazily.
        cfg = dict(cfg.items())
        overrides = _as_tuple(cfg.get('override') or ())
        if not overrides:
            cfg.pop('override', None)
        if cfg.get('layer', 'all') == []:
            problems.append(f'{name}: `layer` is empty, so nothing is meant')
        arguments = {k: v for k, v in cfg.items() if k != 'override'}
        initializer = _build(name, arguments, problems)
        _check_overrides(name, overrides, problems)
        items.append(InitItem(cfg, initializer))
    return tuple(items)


def _check_overrides(
    name: str, overrides: Tuple[Any, ...], problems: List[str]
) -> None:
    for override in overrides:
        if not isinstance(override, dict) or 'name' not in override:
            problems.append(
                f'{name}: each `override` is a dict with the '
                f'`name` of an attribute, not {_short(override)}'
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
            f'class, not {_short(kind)}'
        )
        return None
    try:
        return WEIGHT_INITIALIZERS.build(_copied(cfg))
    except (TypeError, ValueError, KeyError, AssertionError) as error:
        if isinstance(kind, str) and not _is_known(kind, cfg.get('_scope_')):
            problems.append(
                f'{name}: no initializer is registered as {kind!r}'
                f'{nearest(kind, _known_names())}; an initializer of your own '
                'is registered when its module is in `custom_imports`'
            )
            return None
        text = str(error.args[0]) if error.args else repr(error)
        problems.append(f'{name}: {" ".join(text.split())}')
        return None


def reached(item: InitItem, module: nn.Module) -> Optional[List[nn.Module]]:
    """Sub-modules whose ``weight`` and ``bias`` one of MMEngine's own
    initializers writes, by the same test that it makes.

    Args:
        item (InitItem): One dict of an ``init_cfg``.
        module (nn.Module): The module that it is applied to.

    Returns:
        list[nn.Module] | None: The sub-modules; None where only running it
        can tell (``override``, ``Pretrained``, initializers of others).
    """
    if not item.is_mmengines:
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


def nearest(name: str, known: Sequence[str]) -> str:
    """``'; did you mean ...?'``, or nothing where no known name is near."""
    lower = {other.lower(): other for other in known}
    close = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
    return f'; did you mean {lower[close[0]]!r}?' if close else ''


def _is_known(kind: str, scope: Optional[str]) -> bool:
    # As `build` looks it up: in the registry of the default scope first.
    with WEIGHT_INITIALIZERS.switch_scope_and_registry(scope) as registry:
        return registry.get(kind) is not None


def _known_names() -> List[str]:
    registries = [WEIGHT_INITIALIZERS, *WEIGHT_INITIALIZERS.children.values()]
    return [name for registry in registries for name in registry.module_dict]


def _as_tuple(value: Any) -> Tuple[Any, ...]:
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def _copied(cfg: Dict[str, Any]) -> Dict[str, Any]:
    """A copy whose dicts and lists an initializer may take apart."""
    return {
        key: copy.deepcopy(value) if isinstance(value, (dict, list)) else value
        for key, value in cfg.items()
    }


def _short(value: Any) -> str:
    text = getattr(value, '__name__', None) or repr(value)
    return text if len(text) <= 60 else text[:57] + '...'
