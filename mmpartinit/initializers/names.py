"""Names of a checkpoint's tensors, as a module is to have them."""

import re
from collections import OrderedDict
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ..errors import nearest, some

Pairs = Sequence[Tuple[str, str]]
_WRAPPER = re.compile(r'^module\.')


def checked_pairs(revise_keys: Any) -> List[Tuple[str, str]]:
    """Check what is given as ``revise_keys``.

    Raises:
        ValueError: If it is no list of pairs, or if one of these cannot be
            given to ``re.sub``.
    """
    is_list = isinstance(revise_keys, (list, tuple))
    pairs: Sequence[Any] = revise_keys if is_list else [None]
    for pair in pairs:
        if (
            not isinstance(pair, (list, tuple))
            or len(pair) != 2
            or not all(isinstance(text, str) for text in pair)
        ):
            raise ValueError(
                '`revise_keys` is a list of pairs (pattern, replacement) of '
                "str, as in MMEngine, such as [(r'^encoder\\.', '')], not "
                f'{revise_keys!r}'
            )
        try:
            re.compile(pair[0]).sub(pair[1], '')
        except (re.error, IndexError) as error:
            raise ValueError(
                f'`revise_keys` has the pair {tuple(pair)!r}, which re.sub '
                f'does not take: {error}'
            ) from error
    return [(pattern, replacement) for pattern, replacement in pairs]


def renamed(
    state: Dict[str, Any], prefix: Optional[str], pairs: Pairs
) -> Dict[str, Any]:
    """The tensors of a state dict by their new names: without a ``module.``
    in front and without the prefix, which others do not have; then the pairs
    are applied one after the other.

    Raises:
        ValueError: If no name has the prefix, if a pattern is in none of the
            names, or if two tensors would get one name.
    """
    names = {name: _WRAPPER.sub('', name) for name in state}
    if prefix is not None:
        names = _without_prefix(names, prefix)
    for pattern, replacement in pairs:
        if not any(re.search(pattern, name) for name in names.values()):
            raise ValueError(
                f'the pattern {pattern!r} of `revise_keys` is in none of the '
                f'names{_before(pattern, names)}; they are then '
                f'{some(list(names.values()), 5)}'
            )
        names = {
            old: re.sub(pattern, replacement, new)
            for old, new in names.items()
        }
    found: Any = OrderedDict()
    origin: Dict[str, str] = {}
    for old, new in names.items():
        if new in origin:
            raise ValueError(
                f'{origin[new]!r} and {old!r} would both be named {new!r}; '
                'make the patterns of `revise_keys` tell them apart'
            )
        origin[new], found[new] = old, state[old]
    metadata = getattr(state, '_metadata', None)
    if prefix is None and metadata is not None:
        found._metadata = metadata  # versions of modules, as MMEngine has them
    return found


def _without_prefix(names: Dict[str, str], prefix: str) -> Dict[str, str]:
    # One that was written with `module.` is meant without it.
    head = _WRAPPER.sub('', prefix if prefix.endswith('.') else f'{prefix}.')
    found = {
        old: new[len(head) :]
        for old, new in names.items()
        if new.startswith(head)
    }
    if not found:
        heads = list(
            dict.fromkeys(n.partition('.')[0] for n in names.values())
        )
        raise ValueError(
            f'no name starts with the prefix {head!r}'
            f'{nearest(head[:-1], heads)}; they start with {some(heads, 5)}'
        )
    return found


def _before(pattern: str, names: Dict[str, str]) -> str:
    """What to say of a pattern that was in names as the file has them."""
    first = next((old for old in names if re.search(pattern, old)), None)
    if first is None:
        return ''
    return (
        f' any more (it was in {first!r}, which is {names[first]!r} by then)'
    )
