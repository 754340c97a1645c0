"""A renaming that makes what of a checkpoint went nowhere fit what is new,
where the names leave no doubt of it.

Shapes and order say little: norms that are swapped, and blocks shifted by one,
look the same. So numbers stay, and what is exchanged is one and the same
piece of all names, in more than one place of a block.
"""

import os.path
import re
from collections import defaultdict
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Set, Tuple

from ..initializers.names import renamed

_TOKEN = re.compile(r'[^\W\d_]+|\d+|[\W_]')
# Of the exchanges that come into question, so many are tried.
_MOST_TRIED = 20
Shapes = Dict[str, List[int]]
Exchange = Tuple[str, str, bool]  # old, new, whether at the start of a name


class Revision(NamedTuple):
    """What ``AdaptedPretrained`` is to be given.

    Attributes:
        old (str): The piece of names in the file.
        new (str): What it is in the module.
        names (list[str]): Names of the module's tensors that would fit.
        path (str): The module to load, as seen from the one that was.
        prefix (str): The part of the file, as seen from what was loaded.
        pairs (list[tuple[str, str]]): The ``revise_keys``, if any.
    """

    old: str
    new: str
    names: List[str]
    path: str
    prefix: str
    pairs: List[Tuple[str, str]]


def revision(
    unused: Shapes, new: Shapes, loaded: Set[str]
) -> Optional[Revision]:
    """Find the one renaming that names leave no doubt of.

    Args:
        unused (dict): Tensors of a checkpoint that went nowhere, and shapes.
        new (dict): New tensors of the module that it was loaded into.
        loaded (set): Names of others that it has.
    """
    found = _exchanges(unused, new)
    ranked = sorted(found, key=lambda e: (-len(found[e]), len(e[0] + e[1])))
    for exchange in ranked[:_MOST_TRIED]:
        names = _carried_out(exchange, unused, new)
        if 2 * len(names) >= len(unused):
            rivals = (found[other] for other in ranked)
            sure = not any(
                2 * len(pairs) >= len(names) and _contradicts(pairs, names)
                for pairs in rivals
            )
            return _tried(exchange, names, unused, loaded) if sure else None
    return None


def _exchanges(
    unused: Shapes, new: Shapes
) -> Dict[Exchange, Dict[str, Set[str]]]:
    """The exchanges of one piece of a name that make names of the file names
    of the module, for tensors of one shape; and which ones.
    """
    alike = defaultdict(list)
    for name, shape in new.items():
        alike[_kind(name, shape)].append(name)
    found: Dict[Exchange, Dict[str, Set[str]]] = defaultdict(
        lambda: defaultdict(set)
    )
    places = defaultdict(set)
    for name, shape in unused.items():
        for other in alike[_kind(name, shape)]:
            exchange, place = _difference(name, other)
            if place:
                found[exchange][name].add(other)
                places[exchange].add(place)
    return {e: found[e] for e in found if len(places[e]) > 1}


def _kind(name: str, shape: List[int]) -> Tuple[Tuple[int, ...], str]:
    return tuple(shape), '.'.join(re.findall(r'\d+', name))


def _difference(name: str, other: str) -> Tuple[Exchange, str]:
    """The piece in which two names differ, and where in a block it stands;
    '' if that says nothing, as where they have a number in common only.
    """
    old, new = _TOKEN.findall(name), _TOKEN.findall(other)
    start, end, least = 0, 0, min(len(old), len(new))
    while start < least and old[start] == new[start]:
        start += 1
    while end < least - start and old[-1 - end] == new[-1 - end]:
        end += 1
    # A piece at the start ends with its dot.
    if not start and end and old[len(old) - end] == '.':
        end -= 1
    before, behind = old[:start], old[len(old) - end :]
    leaf = len(behind) - 1 - behind[::-1].index('.') if '.' in behind else 0
    around = ''.join(before) + '{}' + ''.join(behind[:leaf])
    pieces = [''.join(x[start : len(x) - end]) for x in (old, new)]
    says = re.search(r'[^\W\d_]', around) and (pieces[0] or not start)
    if behind[:1] and behind[0].isdigit():  # norm{}1 and norm{}2 are two
        place = re.sub(r'(?<!\})\d+', '#', around)
    else:
        place = re.sub(r'\d+', '#', around)
    return (pieces[0], pieces[1], not start), place if says else ''


def _pair(exchange: Exchange) -> Tuple[str, str]:
    old, new, at_start = exchange
    pattern = re.sub(r'([.\\+*?\[\](){}^$|])', r'\\\1', old)
    return ('^' if at_start else '') + pattern, new.replace('\\', '\\\\')


def _carried_out(
    exchange: Exchange, unused: Shapes, new: Shapes
) -> Dict[str, str]:
    """Which names become those of new tensors; none where two become one, or
    where a shape is another.
    """
    names = {name: re.sub(*_pair(exchange), name) for name in unused}
    names = {old: name for old, name in names.items() if name in new}
    fit = all(unused[old] == new[name] for old, name in names.items())
    return names if fit and len(set(names.values())) == len(names) else {}


def _contradicts(pairs: Dict[str, Set[str]], names: Dict[str, str]) -> bool:
    """Whether an exchange would have something else become of a name, or
    something else become what it does.
    """
    back = {new: old for old, new in names.items()}
    return any(
        names.get(old, new) != new or back.get(new, old) != old
        for old, news in pairs.items()
        for new in news
    )


def _tried(
    exchange: Exchange,
    names: Dict[str, str],
    unused: Shapes,
    loaded: Set[str],
) -> Optional[Revision]:
    """How to write an exchange, if that does what it should."""
    pattern, new = _pair(exchange)
    path = _common(names.values())
    prefix, pairs = '', [(pattern, new)]
    if not exchange[2]:  # it is the same in both
        path = prefix = _common([*names, *names.values()])
    elif new.startswith(f'{path}.'):
        pairs = [(pattern, new[len(path) + 1 :])]
    else:
        path = ''
    if pairs[0][1] == '' and exchange[2] and exchange[0][-1:] in ('', '.'):
        prefix, pairs = exchange[0][:-1], []
    state = {name: name for name in (*unused, *loaded)}
    try:
        done = renamed(state, prefix or None, pairs)
    except ValueError:
        return None
    start = f'{path}.' if path else ''
    back = {old: start + name for name, old in done.items()}
    if any(back.get(old) != name for old, name in names.items()):
        return None
    old, new, _ = exchange
    return Revision(old, new, list(names.values()), path, prefix, pairs)


def _common(names: Iterable[str]) -> str:
    """The path that all names lie under."""
    heads: List[Any] = [name.split('.')[:-1] for name in names]
    return '.'.join(os.path.commonprefix(heads))
