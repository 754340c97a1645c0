"""A comparison as plain text: a table of parts, and what follows from it."""

import math
from typing import List, Optional

from rich import box
from rich.table import Table

from ..errors import some
from ..report.text import group_names, table_lines, wrapped
from .drift import Comparison, PartDrift
from .rows import Row, to_rows

_MOST_ROWS = 30
_MOST_NAMES = 6
_OUTPUT = 'the output'
_LEAST = 0.0001  # of what is told in numbers


def comparison_text(found: Comparison, how: str, width: int) -> str:
    """Write a comparison as text, in lines of at most so many characters;
    ``how`` says how the networks were run.
    """
    rows = to_rows(found.parts, _MOST_ROWS)
    lines = _table(found, rows, width)
    lines += wrapped(_counts(found, how), width)
    if found.unloaded:
        lines += wrapped(_unloaded(found), width)
        lines += group_names(found.unloaded, _MOST_NAMES)
    return '\n'.join([*lines, *wrapped(verdict(found), width)])


def verdict(found: Comparison) -> str:
    """Whether the network computes what the pretrained one does, in a
    sentence or two.
    """
    first, output = found.first, found.output
    if found.shifted:
        return (
            'The network does not compute what the pretrained one does: '
            'weights of the base are missing in it, since what was inserted '
            'shifts indices. Put new modules where they shift none (inside of '
            'a block, or at the end), or load by an AdaptedPretrained rule '
            'with `revise_keys`.'
        )
    if first is None and output.drift is None and not found.parts:
        return 'The networks have no part in common that could be compared.'
    ends = _ends(output)
    if first is None:
        return (
            'The network computes what the pretrained one does: '
            f'{_furthest(found)}; {ends}.'
        )
    behind = found.suspects
    new = f' (behind {some(behind, 3)}, new)' if behind else ''
    return (
        f'The network departs from the pretrained one: {_name(first)}{new} is '
        f'the first part to do so, by {percent(first.drift)} where '
        f'{_whole(first.allowed)} is allowed; {ends}.'
    )


def _furthest(found: Comparison) -> str:
    judged = [part for part in found.parts if not part.unsteady]
    worst = max(judged, key=lambda p: p.drift or 0.0, default=None)
    if worst is None or not worst.drift:
        return 'each part gives the same'
    return (
        'no part is further from it than allowed, and '
        f'{worst.path} the furthest, by {percent(worst.drift)}'
    )


def percent(value: Optional[float]) -> str:
    """A drift, to be read beside others."""
    if value is None:
        return 'other shape'
    if math.isnan(value):
        return 'not finite'
    if math.isinf(value):
        return 'from zero'
    if 0 < value < _LEAST:
        return f'<{100 * _LEAST:g} %'
    places = 0 if not value else 1 if value >= 0.1 else 2
    return f'{100 * value:.{places}f} %'


def _whole(allowed: float) -> str:
    return f'{100 * allowed:g} %'


def _ends(output: PartDrift) -> str:
    if output.drift is None:
        return 'its output cannot be compared, since the shapes are others'
    if output.unsteady:
        return 'its output cannot be judged'
    text = f'its output differs by {percent(output.drift)}'
    if output.before is not None:
        text += f' ({percent(output.before)} without the rules)'
    return text


def _name(part: PartDrift) -> str:
    return part.path or _OUTPUT


def _counts(found: Comparison, how: str) -> str:
    idle = f', {len(found.idle)} more were not called' if found.idle else ''
    text = (
        f'Both networks ran on {how}: {len(found.parts)} parts compared{idle}'
    )
    unsteady = sum(part.unsteady for part in [*found.parts, found.output])
    if unsteady:
        text += (
            f'; {unsteady} are not judged, since in the pretrained network '
            'itself as small a change of the input changes them as much (a '
            'choice, such as that of the best proposals, turns)'
        )
    return text


def _unloaded(found: Comparison) -> str:
    text = f'{len(found.unloaded)} weights of the base were not loaded'
    if found.shifted:
        pairs = [f'{base} is {ours} there' for base, ours in found.shifted]
        text += f': {some(pairs, 3)}'
    return text


def _table(found: Comparison, rows: List[Row], width: int) -> List[str]:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column('part', overflow='fold')
    for name in ('drift', 'allowed'):
        table.add_column(name, justify='right', no_wrap=True)
    if found.has_rules:
        table.add_column('without rules', justify='right')
    table.add_column('', no_wrap=True)
    for row in [*rows, Row(_OUTPUT, [found.output])]:
        is_first = any(part is found.first for part in row.parts)
        cells = [row.label, percent(row.drift), _whole(row.worst.allowed)]
        if found.has_rules:
            cells.append(percent(row.before))
        is_unsteady = any(part.unsteady for part in row.parts)
        mark = 'not judged' if is_unsteady else ''
        table.add_row(*cells, '← departs first' if is_first else mark)
    return table_lines(table, width)
