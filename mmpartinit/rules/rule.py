"""One rule of the config, parsed and checked before anything is built on it.

Everything that can be wrong with a rule without knowing the model is said
here, for all rules in one error.
"""

import re
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

from ..errors import Collector, RuleError, nearest, short, told_of
from .init_cfg import InitItem, as_tuple, parse_init_cfg
from .patterns import parse_pattern

KEYS = ('path', 'init_cfg', 'copy_from', 'overwrite', 'optional')


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
    alternatives: Tuple[List[Tuple[str, ...]], ...] = ()
    init_cfg: Tuple[InitItem, ...] = ()
    copy_from: Optional[str] = None
    overwrite: bool = False
    optional: bool = False

    @property
    def path(self) -> str:
        """Its patterns, as findings have them."""
        return ', '.join(map(str, self.paths))

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
    rules: List[Rule] = []
    with wrong.gather():
        if not isinstance(modules, (list, tuple)):
            raise _malformed(
                '`modules` must be a list of rules, such as '
                "[dict(path='neck.adapter', init_cfg=dict(...))], "
                f'not {short(modules)}'
            )
        for index, cfg in enumerate(modules, first):
            with wrong.gather():
                rules.append(_parse_rule(index, cfg))
    return rules


def one_seed(seeds: Iterable[Optional[int]]) -> Optional[int]:
    """The seed of several hooks; a RuleError if they do not have the same."""
    unique = set(seeds)
    if len(unique) > 1:
        raise RuleError.of(
            'hook',
            'the hooks act as one, so they must have the same `seed`, not '
            f'{", ".join(map(str, unique))}',
        )
    return next(iter(unique), None)


def _malformed(message: str) -> RuleError:
    return RuleError.of('malformed', message)


def _parse_rule(index: int, cfg: Dict[str, Any]) -> Rule:
    given = cfg.get('path') if isinstance(cfg, dict) else None
    # What errors call it: patterns as they were given, right or wrong.
    named = Rule(index, as_tuple(given) if given else ())
    wrong = Collector()
    try:
        if not isinstance(cfg, dict):
            raise _malformed(
                'a rule is a dict with `path` and `init_cfg` or `copy_from`, '
                f'not {short(cfg)}'
            )
        with wrong.gather():
            _check_keys(cfg)
        for key in ('overwrite', 'optional'):
            with wrong.gather():
                _check_flag(key, cfg.get(key, False))
        paths = as_tuple(cfg.get('path', ()))
        alternatives: List[List[Tuple[str, ...]]] = []
        for path in _checked_paths(paths, wrong) if 'path' in cfg else ():
            with wrong.gather():
                alternatives.append(parse_pattern(path))
        items: Tuple[InitItem, ...] = ()
        if 'init_cfg' in cfg:
            with wrong.gather():
                items = parse_init_cfg(cfg['init_cfg'])
        with wrong.gather():
            if 'copy_from' in cfg:
                _check_source(cfg['copy_from'])
        wrong.check()
    except RuleError as error:
        raise told_of(error, named) from None
    return Rule(
        index,
        paths,
        tuple(alternatives),
        items,
        cfg.get('copy_from'),
        cfg.get('overwrite', False),
        cfg.get('optional', False),
    )


def _check_keys(cfg: Dict[str, Any]) -> None:
    wrong = Collector()
    for key in cfg:
        with wrong.gather():
            if key not in KEYS:
                raise _malformed(
                    f'unknown key {key!r}{nearest(str(key), KEYS)}; the '
                    f'keys are {", ".join(KEYS)}'
                )
    with wrong.gather():
        if 'path' not in cfg:
            raise _malformed('`path` is missing')
    with wrong.gather():
        if 'init_cfg' not in cfg and 'copy_from' not in cfg:
            raise _malformed('`init_cfg` is missing, or `copy_from`')
        if 'init_cfg' in cfg and 'copy_from' in cfg:
            raise _malformed(
                '`init_cfg` and `copy_from` exclude each other; write two '
                'rules, of which the later wins'
            )
    wrong.check()


def _check_flag(key: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise _malformed(f'`{key}` must be True or False, not {short(value)}')


def _checked_paths(
    paths: Tuple[Any, ...], wrong: Collector
) -> Tuple[str, ...]:
    with wrong.gather():
        if paths and all(isinstance(path, str) for path in paths):
            return paths
        raise _malformed(
            f'`path` must be a str or a list of str, not {short(list(paths))}'
        )
    return ()


def _check_source(path: Any) -> None:
    is_plain = (
        isinstance(path, str)
        and bool(path)
        and not re.search(r'[\s*?{}\[\]]', path)
    )
    if not is_plain:
        raise _malformed(
            '`copy_from` must be the path of one module or parameter, without '
            f'wildcards, not {short(path)}'
        )
