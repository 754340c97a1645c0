"""The hooks of a config, and what a Runner would say of them."""

import copy
import sys
from contextlib import contextmanager
from inspect import signature
from types import ModuleType
from typing import Any, Dict, Iterator, List, Set

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner.priority import Priority, get_priority
from mmengine.visualization import Visualizer

from ..errors import Collector, RuleError, nearest, short, told
from ..hook import CustomModuleInitHook

_OURS = 'mmpartinit'
# Keys of a hook that a registry or a Runner takes.
NOT_ITS_OWN = ('type', 'priority', '_scope_')


def our_hooks(cfg: Config) -> List[Dict[str, Any]]:
    """The config's CustomModuleInitHooks, their ``type`` a class."""
    hooks = [*(cfg.get('default_hooks') or {}).values(), *listed(cfg)]
    found = []
    for hook in hooks:
        kind = _class_of(hook) if isinstance(hook, dict) else None
        if isinstance(kind, type) and issubclass(kind, CustomModuleInitHook):
            # `items()` of a config dict resolves lazy imports.
            found.append({**dict(hook.items()), 'type': kind})
    return found


def listed(cfg: Config) -> List[Any]:
    """The custom hooks, also where they are in no plain list."""
    hooks = cfg.get('custom_hooks') or []
    if isinstance(hooks, dict):
        return [hooks]
    return [h for part in hooks for h in (part if _is_list(part) else [part])]


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _class_of(hook: Dict[str, Any]) -> Any:
    kind = hook.get('type')
    if isinstance(kind, str):
        # Not `HOOKS.get`, which imports all hooks of the default scope.
        kinds = [r.module_dict.get(kind.rpartition('.')[2]) for r in _all()]
        kind = next(filter(None, kinds), None)
    return kind


def _all() -> List[Any]:
    return [HOOKS, *HOOKS.children.values()]


def built_hooks(cfg: Config, wrong: Collector) -> List[Hook]:
    """Build the hooks of a config, but for ours, and gather why a Runner would
    refuse some, or do without them.
    """
    hooks = cfg.get('custom_hooks') or []
    if isinstance(hooks, dict) or any(map(_is_list, hooks)):
        what = 'a dict' if isinstance(hooks, dict) else 'a list in a list'
        wrong.add(
            'hooks',
            f'`custom_hooks` is {what} (a comma behind it makes it one), and '
            'the Runner wants a list of dicts: custom_hooks = [dict(...)]',
        )
    default = (cfg.get('default_hooks') or {}).values()
    every = [('`default_hooks`', hook) for hook in default if hook is not None]
    every += [('`custom_hooks`', hook) for hook in listed(cfg)]
    built: List[Hook] = []
    with _visualizer():
        for where, hook in every:
            with wrong.gather(where=where):
                built += _built(hook)
    named = [h for h in listed(cfg) if isinstance(h, dict)]
    if any(
        isinstance(hook.get('type'), str)
        and _class_of(hook) is CustomModuleInitHook
        for hook in named
    ) and not _is_imported(cfg):
        imports = [*imports_of(cfg), _OURS]
        wrong.add(
            'not-imported',
            f'nothing that the config imports imports {_OURS}, so that a '
            'Runner does not know CustomModuleInitHook: custom_imports = '
            f'dict(imports={imports!r}, allow_failed_imports=False)',
        )
    return built


def _built(hook: Any) -> List[Hook]:
    """Build a hook as a Runner does; none where it is ours, or cannot be built
    here.
    """
    if isinstance(hook, Hook):
        return [] if isinstance(hook, CustomModuleInitHook) else [hook]
    kind = hook.get('type') if isinstance(hook, dict) else None
    if kind is None:
        raise _wrong(f'a hook is a dict with a `type`, not {short(hook)}')
    made = _class_of(hook) or (isinstance(kind, str) and _get(kind))
    if not made:
        names = [name for r in _all() for name in r.module_dict]
        raise _wrong(
            f'no hook is registered as {kind!r}{nearest(kind, names)} (a hook '
            'of your own is registered when its module is in '
            '`custom_imports`)'
        )
    arguments = dict(hook.items())
    priority = arguments.pop('priority', None)
    try:
        get_priority('NORMAL' if priority is None else priority)
    except (KeyError, TypeError, ValueError) as error:
        names = list(Priority.__members__)
        raise _wrong(
            f'{short(kind)}: `priority` is one of {", ".join(names)} or a '
            f'number from 0 to 100, not {priority!r}'
            f'{nearest(str(priority), names)}'
        ) from error
    is_class = isinstance(made, type)
    if is_class and issubclass(made, CustomModuleInitHook):
        return []  # `config_rules` says what is wrong with all of its rules
    text = strange_keys(made, hook) if is_class else ''
    if text:
        raise _wrong(text)
    try:
        made = HOOKS.build(copy.deepcopy(arguments))
    except Exception as error:
        # Where it is trained, there may be what is not here.
        if 'CUDA' not in str(error):
            text = f'{short(kind)} cannot be built: {told(error)}'
            raise _wrong(text) from error
        return []
    if priority is not None:
        made.priority = priority
    return [made]


def strange_keys(made: Any, hook: Dict[str, Any]) -> str:
    """Which keys of a hook its class does not take, and which it takes; ''
    where it takes all of them, or any.
    """
    parameters = signature(made).parameters.values()
    known = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
    strange = [key for key in hook if key not in (*known, *NOT_ITS_OWN)]
    if len(known) < len(parameters) or not strange:
        return ''
    named = ', '.join(repr(key) + nearest(key, known) for key in strange)
    return f'{short(made)!r} takes no {named}; it takes {", ".join(known)}'


def _wrong(message: str) -> RuleError:
    return RuleError.of('hooks', message)


@contextmanager
def _visualizer() -> Iterator[None]:
    """Have a visualizer that draws nowhere, which some hooks ask for."""
    before = dict(Visualizer._instance_dict)
    Visualizer.get_instance('mmpartinit')
    try:
        yield
    finally:
        Visualizer._instance_dict.clear()
        Visualizer._instance_dict.update(before)


def _get(kind: str) -> Any:
    """As a Runner finds it, which imports the hooks of the default scope."""
    try:
        return HOOKS.get(kind)
    except (ImportError, KeyError):
        return None


def imports_of(cfg: Config) -> List[str]:
    """What a config names to be imported."""
    custom = cfg.get('custom_imports') or {}
    names = custom.get('imports') if isinstance(custom, dict) else None
    return [names] if isinstance(names, str) else list(names or [])


def _is_imported(cfg: Config) -> bool:
    """Whether what a config imports, or what that imports, imports this
    package; an import inside of a function is not seen.
    """
    names = imports_of(cfg)
    tops = {name.partition('.')[0] for name in names}
    left = [name for name in sys.modules if name.partition('.')[0] in tops]
    left = [name for name in left if name in names or '.' in name]
    done: Set[str] = set()
    while left:
        name = left.pop()
        if name.partition('.')[0] == _OURS:
            return True
        if name not in done:
            done.add(name)
            left += _used_by(sys.modules.get(name))
    return any(name.partition('.')[0] == _OURS for name in names)


def _used_by(module: Any) -> Iterator[str]:
    """Names of the modules that a module of a user's own uses."""
    file = getattr(module, '__file__', None) or ''
    if 'site-packages' in file or not file:
        return
    for value in list(vars(module).values()):
        if isinstance(value, ModuleType):
            yield value.__name__
        else:
            name = getattr(value, '__module__', None)
            if isinstance(name, str):
                yield name
