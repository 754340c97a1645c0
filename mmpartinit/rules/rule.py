"""One rule of the config, parsed and checked before anything is built on it.

Everything that can be wrong with a rule without knowing the model is said
here, for all rules in one error.
"""

import re
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from typing import (
    Any,
    Collection,
    Dict,
    Iterable,
    List,
    Optional,
    Sequence,
    Tuple,
)

from ..errors import Collector, Finding, RuleError, nearest, short
from .init_cfg import InitItem, as_tuple, parse_init_cfg
from .patterns import parse_pattern, wildcards

_FLAGS = ('overwrite', 'optional')
KEYS = ('path', 'init_cfg', 'copy_from', *_FLAGS)


@dataclass(frozen=True, eq=False)
class Rule:
    """One entry of ``modules``.

    Attributes:
        index (int): Its place in the list, from 0.
        paths (tuple[str, ...]): The patterns as written.
        alternatives (tuple): The patterns parsed, one entry for each.
        init_cfg (tuple[InitItem, ...]): What to write, in order.
        copy_from (str, optional): Or the path of what to copy, each ``*`` and
            ``**`` in place of what the one of the path stands for.
        overwrite (bool): Whether loaded tensors are written too.
        optional (bool): Whether it may match nothing.
    """

    index: int
    paths: Tuple[str, ...]
    alternatives: Tuple[List[Tuple[str, ...]], ...] = ()
    init_cfg: Tuple[InitItem, ...] = ()
    copy_from: Optional[str] = None
    overwrite: bool = False
    optional: bool = False

    @property
    def path(self) -> str:
        """Its patterns, as findings have them."""
        return ', '.join(map(str, self.paths))

    def finding(
        self, level: str, code: str, text: str, names: Sequence[str] = ()
    ) -> Finding:
        """A finding about it, in a sentence that starts with it."""
        text = f'{self}{text}'
        return Finding(level, code, text, list(names), self.index, self.path)

    def __str__(self) -> str:
        paths = self.paths[0] if len(self.paths) == 1 else list(self.paths)
        return f'rule {self.index}' + (f' (path {paths!r})' if paths else '')


def parse_rules(modules: Sequence[Dict[str, Any]]) -> List[Rule]:
    """Check the rules as the config gives them, and build their initializers.

    Raises:
        RuleError: With everything that is wrong in any of them.
    """
    wrong = Collector()
    rules = read_rules(modules, wrong)
    wrong.check()
    return rules


def read_rules(
    modules: Sequence[Dict[str, Any]], wrong: Collector, first: int = 0
) -> List[Rule]:
    """:func:`parse_rules` that gives the rules that can be read, and has the
    errors of others gathered. The first rule has number ``first``.
    """
    if not isinstance(modules, (list, tuple)):
        wrong.add(
            'malformed',
            '`modules` must be a list of rules, such as '
            "[dict(path='neck.adapter', init_cfg=dict(...))], "
            f'not {short(modules)}',
        )
        return []
    rules: List[Rule] = []
    for index, cfg in enumerate(modules, first):
        path = cfg.get('path') if isinstance(cfg, dict) else None
        # What errors call it: by the patterns as given, right or wrong.
        with wrong.gather(Rule(index, as_tuple(path) if path else ())):
            rules.append(_parse_rule(index, cfg))
    return rules


def checked_loaded(loaded: Any) -> List[str]:
    """The entries of ``loaded``, which may be written as a single one.

    Raises:
        RuleError: If it is something else.
    """
    entries = [loaded] if isinstance(loaded, str) else loaded
    if not isinstance(entries, Collection) or not all(
        isinstance(entry, str) for entry in entries
    ):
        raise RuleError.of(
            'hook',
            '`loaded` must be a str or a list of str, names of tensors or '
            f'paths, not {short(loaded)}',
        )
    return list(entries)


def checked_freeze(freeze: Any) -> List[str]:
    """The entries of ``freeze``, which may be written as a single one.

    Raises:
        RuleError: If it is something else, or a path cannot be read.
    """
    if freeze is None:
        return []
    entries = as_tuple(freeze)
    if not entries or not all(isinstance(entry, str) for entry in entries):
        raise RuleError.of(
            'hook',
            "`freeze` must be None, 'loaded', or a path or a list of paths, "
            f'not {short(freeze)}',
        )
    wrong = Collector()
    for entry in entries:
        with wrong.gather(where='`freeze`'):
            parse_pattern(entry)
    wrong.check()
    return list(entries)


def checked_bool(key: str, value: Any) -> bool:
    """Check a key that is True or False.

    Raises:
        RuleError: If it is something else.
    """
    if not isinstance(value, bool):
        text = f'`{key}` must be True or False, not {value!r}'
        raise RuleError.of('hook', text)
    return value


def checked_seed(seed: Any) -> int:
    """A seed, which may be an integer of NumPy's.

    Raises:
        RuleError: If it is something else.
    """
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise RuleError.of('hook', f'`seed` must be an int, not {seed!r}')
    return int(seed)


def one_seed(seeds: Iterable[Optional[int]], runners: Any = None) -> Any:
    """The seed of several hooks, or else the runner's; a RuleError if the
    hooks do not have the same.
    """
    unique = set(seeds)
    if len(unique) > 1:
        raise RuleError.of(
            'hook',
            'the hooks act as one, so they must have the same `seed`, not '
            f'{", ".join(map(str, unique))}',
        )
    seed = next(iter(unique), None)
    return runners if seed is None else seed


def _parse_rule(index: int, cfg: Dict[str, Any]) -> Rule:
    wrong = Collector()
    if not isinstance(cfg, dict):
        raise RuleError.of(
            'malformed',
            'a rule is a dict with `path` and `init_cfg` or `copy_from`, '
            f'not {short(cfg)}',
        )
    _check_keys(cfg, wrong)
    paths = as_tuple(cfg.get('path', ()))
    alternatives: List[List[Tuple[str, ...]]] = []
    items: Tuple[InitItem, ...] = ()
    for path in paths:
        with wrong.gather():
            if isinstance(path, str):
                alternatives.append(parse_pattern(path))
    if 'init_cfg' in cfg:
        with wrong.gather():
            items = parse_init_cfg(cfg['init_cfg'])
    wrong.check()
    flags = {key: cfg.get(key, False) for key in _FLAGS}
    source = cfg.get('copy_from')
    if source is not None and '*' in source:
        _check_wildcards(source, paths, alternatives)
    return Rule(index, paths, tuple(alternatives), items, source, **flags)


def _check_keys(cfg: Dict[str, Any], wrong: Collector) -> None:
    """See to it that a rule has the keys and values that it may have."""
    say = partial(wrong.add, 'malformed')
    for key in cfg:
        if key not in KEYS:
            say(
                f'unknown key {key!r}{nearest(str(key), KEYS)}; the keys are '
                f'{", ".join(KEYS)}'
            )
    if 'path' not in cfg:
        say('`path` is missing')
    paths = as_tuple(cfg.get('path', '**'))
    if not paths or not all(isinstance(path, str) for path in paths):
        say(f'`path` must be a str or a list of str, not {short(list(paths))}')
    if 'init_cfg' not in cfg and 'copy_from' not in cfg:
        say('a rule needs `init_cfg` or `copy_from`')
    if 'init_cfg' in cfg and 'copy_from' in cfg:
        say(
            'use either `init_cfg` or `copy_from`; to combine them, write two '
            'rules (the later wins)'
        )
    for key in _FLAGS:
        if not isinstance(cfg.get(key, False), bool):
            say(f'`{key}` must be True or False, not {short(cfg[key])}')
    source = cfg.get('copy_from', 'x')
    if not isinstance(source, str) or not re.match(r'[^\s?{}\[\]]+$', source):
        say(
            '`copy_from` must be the path of one module or parameter, with no '
            f'wildcards but `*` and `**`, not {short(source)}'
        )


def _check_wildcards(
    source: str,
    paths: Sequence[str],
    alternatives: Sequence[List[Tuple[str, ...]]],
) -> None:
    """See to it that each wildcard of a source has one to be filled by."""
    (segments,) = parse_pattern(source)
    wanted = wildcards(segments)
    for path, patterns in zip(paths, alternatives):
        for there in map(wildcards, patterns):
            if there[: len(wanted)] != wanted:
                raise RuleError.of(
                    'malformed',
                    f'`copy_from` {source!r} has the wildcards '
                    f'{" ".join(wanted)}, each of which takes what the one in '
                    f'its place in `path` stands for, and {path!r} has '
                    f'{" ".join(there) or "none"}',
                )
