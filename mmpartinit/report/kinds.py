"""The kinds of tensors that a figure tells apart: from which file, put in by
code, from which rule, as built.
"""

import re
from collections import Counter
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple, Union

from .records import RuleRecord, TensorRecord

_INK = '#8A4B00'  # for numbers of rules, darker than their bars
Key = Tuple[str, Union[str, int, None]]


class Style(NamedTuple):
    """How a kind is drawn; never told apart by colour alone.

    Attributes:
        colour (str): Of the palette by Okabe and Ito, or a shade of it.
        hatch (str): On bars.
        marker (str): On marks; empty for rules, whose mark is their number.
    """

    colour: str
    hatch: str
    marker: str = ''


class Kind(NamedTuple):
    """Tensors under one entry of the legend.

    Attributes:
        label (str): What they are called, and how many they are.
        keys (list[tuple]): What :func:`key_of` says of them.
        style (Style): How they are drawn.
        number (str): Of a rule, as it is written on bars and marks.
    """

    label: str
    keys: List[Key]
    style: Style
    number: str = ''

    @property
    def bar(self) -> Dict[str, Any]:
        """What matplotlib draws its part of a bar with."""
        colour, hatch, _ = self.style
        return dict(fc=colour, hatch=hatch, ec='white', linewidth=0)

    @property
    def mark(self) -> Dict[str, Any]:
        """What matplotlib draws its marks with."""
        if self.number:
            return dict(marker=f'$\\mathbf{{{self.number}}}$', color=_INK)
        return dict(marker=self.style.marker, color=self.style.colour)


# Each last one is also that of all which have none of their own.
_FILES = [
    Style('#0072B2', '', 'o'),
    Style('#003E63', '', 's'),
    Style('#6FA8D6', '', 'p'),
]
_RULES = [
    Style('#E69F00', '/////'),
    Style('#A65E00', '\\\\\\\\\\'),
    Style('#F2C14E', 'xxxxx'),
    Style('#7A3B00', '|||||'),
    Style('#D98032', '+++++'),
    Style('#C9A227', '-----'),
]
_CODE = Style('#56B4E9', '-----', '^')
_BUILT = Style('#8C8C8C', '.....', 'x')


def key_of(tensor: TensorRecord) -> Key:
    """What decided its values, with the file or the rule."""
    if tensor.origin == 'rule':
        return 'rule', tensor.rule
    return tensor.origin, tensor.file if tensor.origin == 'file' else None


def kinds_of(
    tensors: Sequence[TensorRecord], rules: Sequence[RuleRecord]
) -> List[Kind]:
    """The kinds of some tensors, in the order to draw them in. Of many files
    or rules, only the first few have one of their own.
    """
    counts = Counter(key_of(tensor) for tensor in tensors)

    def kind(
        label: str, keys: List[Key], style: Style, mark: str = ''
    ) -> Kind:
        count = sum(counts[key] for key in keys)
        return Kind(f'{label} ({count})', keys, style, mark)

    def keys_of(origin: str) -> List[Key]:
        return [key for key, _ in counts.most_common() if key[0] == origin]

    kinds = []
    own, others = _first(keys_of('file'), len(_FILES))
    names = _file_names([str(file or '') for _, file in own])
    for name, key, style in zip(names, own, _FILES):
        kinds.append(kind(name, [key], style))
    if others:
        label = f'{len(others)} other files'
        kinds.append(kind(label, others, _FILES[-1]))
    if keys_of('code'):
        kinds.append(kind('put in by code', keys_of('code'), _CODE))
    paths = {str(rule.index): _paths(rule.path) for rule in rules}
    in_order = sorted(keys_of('rule'), key=lambda key: int(key[1] or 0))
    own, others = _first(in_order, len(_RULES))
    for key, style in zip(own, _RULES):
        number = '?' if key[1] is None else str(key[1])
        label = f'rule {number}{paths.get(number, "")}'
        kinds.append(kind(label, [key], style, number))
    if others:
        label = f'{len(others)} other rules'
        kinds.append(kind(label, others, _RULES[-1], '+'))
    if keys_of('built'):
        kinds.append(kind('as built', keys_of('built'), _BUILT))
    return kinds


def _first(keys: List[Key], most: int) -> Tuple[List[Key], List[Key]]:
    """Those that have a kind of their own, and those that share the last."""
    own = most if len(keys) <= most else most - 1
    return keys[:own], keys[own:]


def _paths(paths: Sequence[str]) -> str:
    more = f' and {len(paths) - 1} more' if len(paths) > 1 else ''
    return f': {paths[0]}{more}' if paths else ''


def _file_names(files: Sequence[str]) -> List[str]:
    """Names of files, with as many of their folders as tell them apart."""
    segments = [re.split(r'[\\/]', file) for file in files]
    names: List[str] = []
    for depth in range(1, max(map(len, segments), default=0) + 1):
        names = ['/'.join(parts[-depth:]) for parts in segments]
        if len(set(names)) == len(names):
            break
    return [name or 'a file, not known which' for name in names]
