"""One rule of the config, parsed and checked before anything is built on it.

Everything that can be wrong with a rule without knowing the model is said
here, for all rules in one error.
"""

import re
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

from ..errors import RuleError, nearest, short
from .init_cfg import InitItem, as_tuple, parse_init_cfg
from .patterns import PathError, parse_pattern

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
    alternatives: Tuple[List[Tuple[str, ...]], ...]
    init_cfg: Tuple[InitItem, ...] = ()
    copy_from: Optional[str] = None
    overwrite: bool = False
    optional: bool = False

    def __str__(self) -> str:
        paths = self.paths[0] if len(self.paths) == 1 else list(self.paths)
        return f'rule {self.index} (path {paths!r})'


def parse_rules(modules: Sequence[Dict[str, Any]]) -> List[Rule]:
    """Check the rules as the config gives them, and build their initializers.

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
    """:func:`parse_rules` that gives a sentence for each problem, beside the
    rules without one, instead of raising them. The first has number ``first``.
    """
    if not isinstance(modules, (list, tuple)):
        problem = (
            '`modules` must be a list of rules, such as '
            "[dict(path='neck.adapter', init_cfg=dict(...))], "
            f'not {short(modules)}'
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


def one_seed(seeds: Iterable[Optional[int]]) -> Optional[int]:
    """The seed of several hooks; a RuleError if they do not have the same."""
    unique = set(seeds)
    if len(unique) > 1:
        raise RuleError(
            'the hooks act as one, so they must have the same `seed`, not '
            f'{", ".join(map(str, unique))}'
        )
    return next(iter(unique), None)


def _parse_rule(
    index: int, cfg: Dict[str, Any], problems: List[str]
) -> Optional[Rule]:
    if not isinstance(cfg, dict):
        problems.append(
            'a rule is a dict with `path` and `init_cfg` or `copy_from`, not '
            f'{short(cfg)}'
        )
        return None
    for key in cfg:
        if key not in KEYS:
            problems.append(
                f'unknown key {key!r}{nearest(key, KEYS)}; the '
                f'keys are {", ".join(KEYS)}'
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
                f'`{key}` must be True or False, not {short(value)}'
            )
    paths = as_tuple(cfg.get('path', ()))
    alternatives = _parse_paths(paths, problems) if 'path' in cfg else ()
    items = (
        parse_init_cfg(cfg['init_cfg'], problems) if 'init_cfg' in cfg else ()
    )
    source = cfg.get('copy_from')
    if 'copy_from' in cfg and not _is_plain(source):
        problems.append(
            '`copy_from` must be the path of one module or parameter, without '
            f'wildcards, not {short(source)}'
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
            f'`path` must be a str or a list of str, not {short(list(paths))}'
        )
        return ()
    alternatives = []
    for path in paths:
        try:
            alternatives.append(parse_pattern(path))
        except PathError as error:
            problems.append(str(error))
    return tuple(alternatives)
