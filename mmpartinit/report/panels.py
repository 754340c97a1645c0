"""The panels of a report's figure: bars with the shares of each row, and marks
at the sizes of its values.
"""

import math
from typing import TYPE_CHECKING, Dict, List, Optional, Sequence, Tuple

import numpy as np

from .kinds import Key, Kind, key_of
from .records import TensorRecord
from .rows import Row, is_statistic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TEXT, _SMALL = 6, 5  # points
_SEEN = 0.015  # of a bar, to be seen at all
_DIGIT = 0.055  # inches
_FAR = 6  # powers of ten: what is beyond is drawn there
_TENSORS, _PARAMETERS = (-0.15, 0.36), (0.2, 0.2)  # middle and height


def draw_bars(
    axes: 'Axes', rows: Sequence[Row], kinds: Sequence[Kind], width: float
) -> None:
    """The share of each kind in a row: by tensors, and below by parameters.
    Rules have their number where it fits; ``width`` is in inches.
    """
    counts = np.zeros((2, len(rows), len(kinds)))
    places = _places(kinds)
    for row, (_, tensors) in enumerate(rows):
        for tensor in tensors:
            place = places[key_of(tensor)]
            counts[:, row, place] += 1, math.prod(tensor.shape)
    for count, (middle, height) in zip(counts, (_TENSORS, _PARAMETERS)):
        totals = count.sum(1, keepdims=True)
        shares = count / np.maximum(totals, 1)
        shares[(shares > 0) & (shares < _SEEN)] = _SEEN
        shares /= np.maximum(shares.sum(1, keepdims=True), 1)
        starts = shares.cumsum(1) - shares
        for kind, start, share in zip(kinds, starts.T, shares.T):
            _draw_parts(axes, kind, start, share, middle, height)
            if kind.number and height == _TENSORS[1]:
                has_room = share * width > _DIGIT * len(kind.number)
                x, y = start + share / 2, np.arange(len(rows)) + middle
                _draw_number(axes, kind, x[has_room], y[has_room])
        for row, total in enumerate(totals[:, 0]):
            axes.text(
                1 + 0.04 / width,
                row + middle,
                _short(int(total)),
                va='center',
                size=_SMALL,
                color='0.3',
            )
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 1], ['0', '100 %'])
    axes.set_xlabel('upper bar: tensors\nlower bar: parameters', size=TEXT)


def draw_sizes(
    axes: 'Axes',
    rows: Sequence[Row],
    kinds: Sequence[Kind],
    sizes: Sequence[Sequence[Optional[float]]],
) -> None:
    """A mark for each tensor, at the size of its values."""
    known = [
        min(max(math.log10(size), -_FAR), _FAR)
        for row in sizes
        for size in row
        if size
    ]
    low = min(math.floor(min(known, default=0)), _FAR - 1)
    high = max(math.ceil(max(known, default=0)), low + 1)
    gap = 0.08 * (high - low) + 0.15
    zero = low - 2 * gap
    places = _places(kinds)
    points: List[List[Tuple[float, float]]] = [[] for _ in kinds]
    for row, (_, tensors) in enumerate(rows):
        # A lane for each kind in the row, and in it the model's order.
        here = [places[key_of(tensor)] for tensor in tensors]
        lanes = {place: lane for lane, place in enumerate(sorted(set(here)))}
        for number, (place, size) in enumerate(zip(here, sizes[row])):
            if size is not None:
                at = zero
                if size:
                    at = min(max(math.log10(size), low), high)
                along = number / max(len(here) - 1, 1) - 0.5
                # Digits that lie on each other are one to the eye.
                along *= 0.1 if kinds[place].number else 0.5
                lane = (lanes[place] + 0.5 + along) / len(lanes)
                points[place].append((at, row + 0.84 * (lane - 0.5)))
    for kind, found in zip(kinds, points):
        x, y = np.reshape(found, (-1, 2)).T
        axes.scatter(
            x,
            y,
            s=13 * len(kind.number) if kind.number else 6,
            alpha=0.75 if len(found) < 400 else 0.4,
            linewidths=0.7 if kind.style.marker == 'x' else 0,
            **kind.mark,
        )
    axes.axvline(low - gap, color='0.6', linewidth=0.5, linestyle=':')
    step = math.ceil((high - low + 1) / 4)
    ticks = list(range(low, high + 1, step))
    axes.set_xticks(
        [zero, *ticks], ['0', *[f'$10^{{{tick}}}$' for tick in ticks]]
    )
    axes.set_xlim(zero - gap, high + gap)
    axes.set_xlabel('size of values (RMS)', size=TEXT)


def value_size(tensor: TensorRecord) -> Optional[float]:
    """Root mean square of a tensor's values, where the report knows it.

    For weights around 0 it is the standard deviation; unlike that it tells a
    norm layer's 1 from a gate's 0.
    """
    if is_statistic(tensor) or tensor.mean is None or tensor.std is None:
        return None
    size = math.hypot(tensor.mean, tensor.std)
    return size if math.isfinite(size) else None


def _draw_parts(
    axes: 'Axes',
    kind: Kind,
    starts: np.ndarray,
    shares: np.ndarray,
    middle: float,
    height: float,
) -> None:
    """A kind's parts of all bars, as one patch: single ones take far longer,
    the more so with a hatch.
    """
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    (rows,) = shares.nonzero()
    left, right = starts[rows], (starts + shares)[rows]
    top, bottom = rows + middle - height / 2, rows + middle + height / 2
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    # For each row its corners, and the first one again.
    points = np.transpose([*corners, corners[0]], (2, 0, 1)).reshape(-1, 2)
    codes = [Path.MOVETO, *[Path.LINETO] * 3, Path.CLOSEPOLY] * len(rows)
    axes.add_patch(PathPatch(Path(points, codes), **kind.bar))


def _draw_number(
    axes: 'Axes', kind: Kind, x: np.ndarray, y: np.ndarray
) -> None:
    """Write the number of a rule on bars, with an edge around it."""
    for colour, edge in (('white', 1.6), ('black', 0)):
        axes.scatter(
            x,
            y,
            s=12 * len(kind.number),
            linewidths=edge,
            zorder=3,
            **{**kind.mark, 'color': colour},
        )


def _places(kinds: Sequence[Kind]) -> Dict[Key, int]:
    return {key: i for i, kind in enumerate(kinds) for key in kind.keys}


def _short(number: int) -> str:
    """A number in a few letters: 4880, 37.8 k, 25.6 M."""
    if number < 10_000:
        return str(number)
    powers = (12, 'T'), (9, 'G'), (6, 'M'), (3, 'k')
    power, unit = next(p for p in powers if number >= 0.9995 * 10 ** p[0])
    return f'{number / 10**power:.3g} {unit}'
