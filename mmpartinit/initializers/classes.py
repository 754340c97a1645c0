"""Names of classes: a checkpoint's, and those of the model."""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ..errors import nearest, some
from .around import around


class Said(NamedTuple):
    """What ``classes`` says; None where it is for file or config to say.

    Attributes:
        old (list[str], optional): Names of the file's classes, in order.
        new (list[str], optional): Those of the model.
    """

    old: Optional[List[str]] = None
    new: Optional[List[str]] = None


def checked_classes(classes: Any) -> Optional[Said]:
    """Check what is given as ``classes``.

    Raises:
        ValueError: If it is neither None, a list of names, nor a dict with
            lists under ``old`` and ``new``.
    """
    if classes is None:
        return None
    lists = dict(classes) if isinstance(classes, dict) else {'new': classes}
    if lists.keys() <= {'old', 'new'} and all(map(_is_names, lists.values())):
        said = Said(**{key: list(names) for key, names in lists.items()})
        for key in lists:
            _check_distinct(lists[key], f'the {key} names of `classes`')
        return said
    raise ValueError(
        'AdaptedPretrained: `classes` is a list of the names of the classes, '
        'or dict(old=[...], new=[...]) with either part left out; not '
        f'{classes!r}'
    )


def _is_names(names: Any) -> bool:
    return (
        isinstance(names, (list, tuple))
        and len(names) > 0
        and all(isinstance(name, str) for name in names)
    )


def _check_distinct(names: Sequence[str], what: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f'{what} are to tell classes apart, and {some(twice, 3)} comes '
            'twice; write dict(old=[...], new=[...]) with names that differ'
        )


def both_names(said: Said, found: Dict[str, Any]) -> Tuple[List[str], ...]:
    """Names of a checkpoint's classes and of the model's.

    Raises:
        ValueError: If either is not known, or if a name comes twice.
    """
    old, new = said.old, said.new
    if old is None:
        old = _names_in(found.get('meta'))
        if old is None:
            raise ValueError(
                'the names of its classes are not in it '
                '(`meta.dataset_meta`); write classes=dict(old=[...]) or '
                'dict(old=[...], new=[...])'
            )
        _check_distinct(old, 'its own names')
    if new is None:
        known = around().classes
        if isinstance(known, str):
            raise ValueError(
                "the names of the model's classes are not given, and "
                f'{known}; write classes=[...], in their order'
            )
        new = list(known)
        _check_distinct(new, "the dataset's names")
    if not set(old) & set(new):
        near = nearest(new[0], old)
        raise ValueError(
            f'none of the classes {some(new, 3)} is one of its own, '
            f'which are {some(old, 3)}{near}; write their names as the file '
            'does, with dict(old=[...], new=[...])'
        )
    return old, new


def _names_in(meta: Any) -> Optional[List[str]]:
    """The names of classes in a checkpoint's ``meta``, new or old."""
    if not isinstance(meta, dict):
        return None
    data = meta.get('dataset_meta')
    known = data if isinstance(data, dict) else meta
    names: Any = known.get('classes', known.get('CLASSES'))
    return list(names) if _is_names(names) else None
