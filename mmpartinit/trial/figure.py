"""A comparison as a figure: drift along the network, with the rules and
without them.
"""

import math
from itertools import groupby
from typing import (
    TYPE_CHECKING,
    Any,
    Dict,
    Iterator,
    List,
    Optional,
    Sequence,
    Tuple,
)

from .drift import Comparison, PartDrift
from .rows import Row, to_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT = 3.4, 1.7  # inches, as a column of a paper
_DPI = 200
_MOST_LABELS = 14
_MOST_LETTERS = 14
_MOST_MARKS = 50
_APART = 0.05  # of the width, from one label to the next
_FLOOR, _CEILING = 1e-5, 1e3  # what is below is float32's, or nothing
# Of the palette by Okabe and Ito, and never told apart by colour alone.
_WITH: Dict[str, Any] = dict(
    color='#E69F00', marker='D', markersize=1.8, linewidth=0.8, zorder=3
)
_WITHOUT: Dict[str, Any] = dict(
    color='#8C8C8C',
    marker='x',
    markersize=2.4,
    linewidth=0.8,
    linestyle=':',
    zorder=2,
)
_ALLOWED: Dict[str, Any] = dict(
    color='0.3', linewidth=0.5, linestyle='--', zorder=1
)


def draw_comparison(found: Comparison) -> 'Figure':
    """Draw how far each part is from the pretrained network, in the order of
    computation, the output last; apart from pyplot, so that nothing has to be
    closed.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({'text.usetex': False}):
        figure = Figure(figsize=(_WIDTH, _HEIGHT), dpi=_DPI)
        axes = figure.add_axes((0.15, 0.3, 0.84, 0.55))
        parts = [*found.parts, found.output]
        _draw_lines(axes, found, parts)
        _draw_labels(axes, parts)
        figure.legend(
            loc='upper center',
            ncols=3,
            fontsize=6,
            frameon=False,
            columnspacing=1.2,
            handlelength=1.6,
        )
    return figure


def _draw_lines(
    axes: 'Axes', found: Comparison, parts: Sequence[PartDrift]
) -> None:
    label = 'with the rules' if found.has_rules else 'drift'
    lines = [(label, _WITH, [part.drift for part in parts])]
    if found.has_rules:
        before = [part.before for part in parts]
        lines.append(('without them', _WITHOUT, before))
    allowed: List[Optional[float]] = [part.allowed for part in parts]
    lines.append(('allowed', _ALLOWED, allowed))
    for label, style, drifts in lines:
        every = math.ceil(len(parts) / _MOST_MARKS)
        axes.plot(_heights(drifts), label=label, markevery=every, **style)
    axes.set_yscale('log')
    highest = max(
        h for _, _, drifts in lines for h in _heights(drifts) if h == h
    )
    # Room to see what lies at the end of the scale.
    axes.set_ylim(_FLOOR / 2, max(1.5 * highest, 3.0))
    labels = ['0', '0.01 %', '0.1 %', '1 %', '10 %', '100 %']
    axes.set_yticks([_FLOOR, 1e-4, 1e-3, 1e-2, 0.1, 1], labels)
    axes.set_ylabel('drift from the pretrained', fontsize=5.5, labelpad=1)
    axes.minorticks_off()
    axes.set_xlim(-0.5, len(parts) - 0.5)
    axes.tick_params(labelsize=5.5, length=0, pad=2)
    axes.spines[:].set_visible(False)


def _heights(drifts: Sequence[Optional[float]]) -> List[float]:
    """Where to draw: what is not finite at the top, what is nothing at the
    bottom; nowhere where there is nothing to compare.
    """
    return [
        float('nan')
        if drift is None
        else _CEILING
        if math.isnan(drift)
        else min(max(drift, _FLOOR), _CEILING)
        for drift in drifts
    ]


def _draw_labels(axes: 'Axes', parts: Sequence[PartDrift]) -> None:
    """Name stretches of the network below them, shaded by turns."""
    runs = _runs(to_rows(parts[:-1], _MOST_LABELS), parts)
    ticks: List[float] = []
    labels: List[str] = []
    for number, (start, end, label) in enumerate(runs):
        middle = (start + end - 1) / 2
        if not ticks or middle - ticks[-1] >= _APART * len(parts):
            ticks.append(middle)
            labels.append(_shortened(label))
        if number % 2 == 0:
            box = (start - 0.5, end - 0.5)
            axes.axvspan(*box, color='0.95', zorder=0, lw=0)
    axes.set_xticks(
        ticks,
        labels,
        rotation=40,
        ha='right',
        rotation_mode='anchor',
        parse_math=False,
    )


def _runs(
    rows: Sequence[Row], parts: Sequence[PartDrift]
) -> Iterator[Tuple[int, int, str]]:
    """First place, end and label of neighbours that are in one row."""
    label_of = {id(p): row.label for row in rows for p in row.parts}
    end = 0
    for label, run in groupby(label_of.get(id(p), 'output') for p in parts):
        start, end = end, end + len(list(run))
        yield start, end, label


def _shortened(label: str) -> str:
    """The end of a label, whole segments of it where they fit."""
    while len(label) > _MOST_LETTERS and '.' in label.lstrip('…'):
        label = '…' + label.lstrip('…').split('.', 1)[1]
    return (
        label
        if len(label) <= _MOST_LETTERS
        else '…' + label[1 - _MOST_LETTERS :]
    )
