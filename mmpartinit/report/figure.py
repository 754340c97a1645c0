"""A report as a figure: where each part's weights come from, and their size.

A row is a part of the model. Its bar has the share of its tensors from each
origin, and beside it each tensor is a mark at the size of its values, so that
new weights are seen next to the pretrained ones of the same part.
"""

import math
from collections import Counter
from typing import (
    TYPE_CHECKING,
    Any,
    Dict,
    List,
    NamedTuple,
    Optional,
    Sequence,
)

import numpy as np

from .records import TensorRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH = 3.4  # inches, as a column of a paper
_DPI = 200
_MOST_ROWS = 12
_SMALL = 8  # tensors that are not split further
_MOST_LETTERS = 19


class _Style(NamedTuple):
    """How an origin is drawn: never told apart by colour alone."""

    label: str
    colour: str  # of the palette by Okabe and Ito
    hatch: str
    marker: str
    size: float


_STYLES = dict(
    file=_Style('from a file', '#0072B2', '', 'o', 5),
    code=_Style('put in by code', '#56B4E9', '---', '^', 8),
    rule=_Style('from a rule', '#E69F00', '/////', 'D', 8),
    built=_Style('as built', '#8C8C8C', '.....', 'x', 9),
)


class Part(NamedTuple):
    """Tensors of a part of the model, under one label."""

    label: str
    tensors: List[TensorRecord]


def draw_report(records: Sequence[TensorRecord]) -> 'Figure':
    """Draw the tensors of a report, into a figure of a column's width; apart
    from pyplot, so that nothing has to be closed.
    """
    from matplotlib import rc_context

    # LaTeX, where somebody's settings ask for it, may not be there.
    with rc_context({'text.usetex': False}):
        return _draw(records)


def _draw(records: Sequence[TensorRecord]) -> 'Figure':
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tensors = [t for t in records if not _is_counter(t)]
    parts = model_parts(tensors, _MOST_ROWS)
    height = 0.76 + 0.3 * len(parts)
    figure = Figure(figsize=(_WIDTH, height), dpi=_DPI)
    sizes = [[value_size(tensor) for tensor in part.tensors] for part in parts]
    has_sizes = any(size is not None for row in sizes for size in row)
    top, bottom = 1 - 0.4 / height, 0.36 / height
    shares = figure.add_axes(
        (0.315, bottom, 0.2 if has_sizes else 0.6, top - bottom)
    )
    _draw_shares(shares, parts)
    if has_sizes:
        box = (0.605, bottom, 0.38, top - bottom)
        _draw_sizes(figure.add_axes(box), parts, sizes)
    _draw_legend(figure, tensors)
    FigureCanvasAgg(figure)
    return figure


def as_image(figure: 'Figure') -> np.ndarray:
    """A figure as RGB, of shape (height, width, 3) and dtype uint8."""
    canvas: Any = figure.canvas  # as `draw_report` made it
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def save_image(image: np.ndarray, path: str) -> None:
    """Write what :func:`as_image` gave, which is drawn already, as a PNG."""
    from matplotlib.image import imsave

    imsave(path, image, dpi=_DPI)


def model_parts(
    tensors: Sequence[TensorRecord], most: int = _MOST_ROWS
) -> List[Part]:
    """Split a model into at most so many parts of neighbouring tensors, in its
    order, the large ones further than the small ones.
    """
    parts = _chunks(_children(Part('', list(tensors))), most)
    done: List[str] = []  # labels of what is split, or cannot be
    while True:
        left = [part for part in parts if part.label not in done]
        part = max(left, key=lambda p: len(p.tensors), default=None)
        if part is None or len(part.tensors) <= _SMALL:
            return parts
        done.append(part.label)
        children = _children(part)
        room = most - len(parts) + 1
        is_most = len(part.tensors) > len(tensors) / 2
        if len(children) > room and not (is_most and room > 1):
            return parts
        place = parts.index(part)
        parts[place : place + 1] = _chunks(children, room)


def value_size(tensor: TensorRecord) -> Optional[float]:
    """Root mean square of a tensor's values, where the report knows it.

    For weights around 0 it is the standard deviation; unlike that it tells a
    norm layer's 1 from a gate's 0.
    """
    running = tensor.name.rpartition('.')[2].startswith('running_')
    if running or tensor.mean is None or tensor.std is None:
        return None
    return math.hypot(tensor.mean, tensor.std)


def _is_counter(tensor: TensorRecord) -> bool:
    return tensor.name.endswith('num_batches_tracked')


def _children(part: Part) -> List[Part]:
    """A part, one segment of the names further down."""
    depth = part.label.count('.') + 1 if part.label else 0
    found: Dict[str, List[TensorRecord]] = {}
    for tensor in part.tensors:
        # The last segment names a tensor: no part of its own.
        segments = tensor.name.split('.')
        label = '.'.join(segments[: max(1, min(depth + 1, len(segments) - 1))])
        found.setdefault(label, []).append(tensor)
    return [Part(label, members) for label, members in found.items()]


def _chunks(parts: List[Part], most: int) -> List[Part]:
    """Join neighbours, where there are too many parts."""
    if len(parts) <= most:
        return parts
    joined = []
    bounds = [round(i * len(parts) / most) for i in range(most + 1)]
    for start, end in zip(bounds, bounds[1:]):
        members = parts[start:end]
        label = members[0].label
        if len(members) > 1:
            label += '–' + members[-1].label.rpartition('.')[2]
        joined.append(Part(label, [t for p in members for t in p.tensors]))
    return joined


def _draw_shares(axes: 'Axes', parts: List[Part]) -> None:
    rows = np.arange(len(parts))
    left = np.zeros(len(parts))
    for origin, style in _STYLES.items():
        share = np.array(
            [
                100 * np.mean([t.origin == origin for t in part.tensors])
                for part in parts
            ]
        )
        some = share > 0  # a hatch takes long to draw, also where none is seen
        axes.barh(
            rows[some],
            share[some],
            left=left[some],
            height=0.62,
            color=style.colour,
            hatch=style.hatch,
            edgecolor='white',
            linewidth=0,
        )
        left += share
    for row, part in enumerate(parts):
        axes.text(
            104,
            row,
            str(len(part.tensors)),
            va='center',
            fontsize=5.5,
            color='0.35',
        )
    labels = [_shortened(part.label) for part in parts]
    # A name may hold what is mathematics elsewhere.
    axes.set_yticks(rows, labels, parse_math=False)
    axes.set_xlim(0, 100)
    axes.set_xticks([0, 100], ['0', '100 %'])
    axes.set_xlabel('tensors', fontsize=6.5)
    _plain(axes, parts)


def _draw_sizes(
    axes: 'Axes', parts: List[Part], sizes: List[List[Optional[float]]]
) -> None:
    known = [s for row in sizes for s in row if s]
    low = max(math.floor(math.log10(min(known, default=1))), -6)
    high = max(math.ceil(math.log10(max(known, default=1))), low + 1)
    gap = 0.08 * (high - low) + 0.15
    zero = low - 2 * gap
    for lane, (origin, style) in enumerate(_STYLES.items()):
        x, y = [], []
        for row, part in enumerate(parts):
            for number, tensor in enumerate(part.tensors):
                size = sizes[row][number]
                if tensor.origin == origin and size is not None:
                    x.append(max(math.log10(size), low) if size else zero)
                    # Spread a little, in the model's order.
                    spread = number / max(len(part.tensors) - 1, 1) - 0.5
                    y.append(row + 0.2 * (lane - 1.5) + 0.12 * spread)
        axes.scatter(
            x,
            y,
            s=style.size,
            marker=style.marker,
            color=style.colour,
            alpha=0.75 if len(x) < 400 else 0.4,
            linewidths=0.7 if style.marker == 'x' else 0,
        )
    axes.axvline(low - gap, color='0.6', linewidth=0.5, linestyle=':')
    step = max(1, math.ceil((high - low) / 4))
    ticks = list(range(low, high + 1, step))
    axes.set_xticks(
        [zero, *ticks], ['0', *[f'$10^{{{tick}}}$' for tick in ticks]]
    )
    axes.set_xlim(zero - gap, high + gap)
    axes.set_yticks([])
    axes.set_xlabel('size of values (RMS)', fontsize=6.5)
    _plain(axes, parts)


def _plain(axes: 'Axes', parts: List[Part]) -> None:
    axes.set_ylim(len(parts) - 0.5, -0.5)
    axes.tick_params(labelsize=6, length=0, pad=2)
    for side in ('top', 'right', 'left', 'bottom'):
        axes.spines[side].set_visible(False)
    for row in range(0, len(parts), 2):
        axes.axhspan(row - 0.5, row + 0.5, color='0.95', zorder=0, lw=0)


def _draw_legend(figure: 'Figure', tensors: List[TensorRecord]) -> None:
    from matplotlib.lines import Line2D

    counts = Counter(tensor.origin for tensor in tensors)
    marks = [
        Line2D(
            [],
            [],
            linestyle='',
            marker=style.marker,
            color=style.colour,
            markersize=4,
            label=f'{style.label} ({counts[origin]})',
        )
        for origin, style in _STYLES.items()
    ]
    figure.legend(
        handles=marks,
        loc='upper center',
        ncols=2,
        fontsize=6.5,
        frameon=False,
        handletextpad=0.1,
        columnspacing=1.2,
    )


def _shortened(label: str) -> str:
    """The end of a label, whole segments of it where they fit."""
    while len(label) > _MOST_LETTERS and '.' in label.lstrip('…'):
        label = '…' + label.lstrip('…').split('.', 1)[1]
    if len(label) <= _MOST_LETTERS:
        return label
    return '…' + label[1 - _MOST_LETTERS :]
