"""A report as a figure: where each part's weights come from, and their size.

A row is a part of the model. Its bars have the share of its tensors and of its
parameters of each kind, and beside them each tensor is a mark at the size of
its values, so that new weights are seen next to the pretrained ones of the
same part.
"""

import re
from typing import TYPE_CHECKING, Any, List, Sequence, Tuple

import numpy as np

from .kinds import Kind, kinds_of
from .panels import TEXT, draw_bars, draw_sizes, value_size
from .records import RuleRecord, TensorRecord
from .rows import Row, choose_rows, with_own_start
from .text import filled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

_WIDTH = 3.4  # inches, as a column of a paper
_DPI = 200
_ROW, _LINE = 0.3, 0.1  # inches: a row at least, a line of its label
_FOOT, _NUMBERS, _EDGE = 0.46, 0.38, 0.05  # inches: below, between, around
_MOST_LETTERS = 100  # of a label


def draw_report(
    records: Sequence[TensorRecord], rules: Sequence[RuleRecord] = ()
) -> 'Figure':
    """Draw the tensors of a report, into a figure of a column's width; apart
    from pyplot, so that nothing has to be closed.

    Left out is what only follows another tensor (:func:`with_own_start`):
    running statistics of a new norm that a rule covers are not as built.
    """
    from matplotlib import rc_context

    # LaTeX, where somebody's settings ask for it, may not be there.
    with rc_context({'text.usetex': False, 'hatch.linewidth': 0.6}):
        return _draw(records, rules)


def as_image(figure: 'Figure') -> np.ndarray:
    """A figure as RGB, of shape (height, width, 3) and dtype uint8."""
    canvas: Any = figure.canvas  # as `draw_report` made it
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def save_image(image: np.ndarray, path: str) -> None:
    """Write what :func:`as_image` gave, which is drawn already, as a PNG."""
    from matplotlib.image import imsave

    imsave(path, image, dpi=_DPI)


def _draw(
    records: Sequence[TensorRecord], rules: Sequence[RuleRecord]
) -> 'Figure':
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tensors = with_own_start(records, rules)
    kinds = kinds_of(tensors, rules)
    rows = choose_rows(tensors)
    sizes = [[value_size(tensor) for tensor in row.tensors] for row in rows]
    has_sizes = any(size is not None for row in sizes for size in row)

    figure = Figure(figsize=(_WIDTH, 1), dpi=_DPI)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    _make_plain(axes, len(rows))
    left, lines = _draw_labels(axes, rows)
    head = _draw_legend(figure, kinds, has_sizes)
    body = max(len(rows), 1) * max(_ROW, _LINE * (lines + 1))
    height = head + body + _FOOT
    figure.set_size_inches(_WIDTH, height)

    def box(left: float, right: float) -> Tuple[float, float, float, float]:
        wide, high = (right - left) / _WIDTH, body / height
        return left / _WIDTH, _FOOT / height, wide, high

    # The bars begin where the longest label ends.
    width = (_WIDTH - left) * (0.34 if has_sizes else 0.8)
    axes.set_position(box(left, left + width))
    draw_bars(axes, rows, kinds, width)
    if has_sizes:
        axes = figure.add_axes(box(left + width + _NUMBERS, _WIDTH - _EDGE))
        _make_plain(axes, len(rows))
        draw_sizes(axes, rows, kinds, sizes)
    return figure


def _make_plain(axes: 'Axes', rows: int) -> None:
    axes.set_ylim(max(rows, 1) - 0.5, -0.5)
    axes.set_yticks([])
    axes.tick_params(labelsize=TEXT, length=0, pad=2)
    axes.spines[:].set_visible(False)
    for row in range(0, rows, 2):
        axes.axhspan(row - 0.5, row + 0.5, color='0.95', zorder=0, lw=0)


def _draw_labels(axes: 'Axes', rows: Sequence[Row]) -> Tuple[float, int]:
    """Name the rows; how many inches the labels take, and lines at most."""
    for letters in (22, 16, 10):
        # Broken after dots and commas, or where none comes for long.
        piece = rf'[^.,]{{,{letters}}}[.,]* ?'
        labels = [
            '\n'.join(filled(re.findall(piece, label), letters))
            for label in _labels(rows)
        ]
        # A name may hold what is mathematics elsewhere.
        axes.set_yticks(range(len(rows)), labels, parse_math=False)
        width = max(map(_width, axes.get_yticklabels()), default=0)
        if width < _WIDTH / 2.5:
            break
    lines = max((label.count('\n') + 1 for label in labels), default=1)
    return width + 1.6 * _EDGE, lines


def _labels(rows: Sequence[Row]) -> List[str]:
    """The labels of rows, whole up to a length that no model should have."""
    half = _MOST_LETTERS // 2
    return [
        label
        if len(label) <= _MOST_LETTERS
        else f'({number}) {label[:half]}…{label[-half:]}'
        for number, (label, _) in enumerate(rows)
    ]


def _width(text: 'Text') -> float:
    return text.get_window_extent().width / _DPI


def _draw_legend(
    figure: 'Figure', kinds: List[Kind], has_sizes: bool
) -> float:
    """Say what each kind is and how it is drawn; in how many inches."""
    from matplotlib.legend_handler import HandlerTuple
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: List[Any] = []
    for kind in kinds:
        bar = Patch(**kind.bar)
        mark = Line2D([], [], lw=0, ms=4, mew=0.4, **kind.mark)
        handles.append((bar, mark) if has_sizes else (bar,))
    legend = figure.legend(
        handles,
        [kind.label for kind in kinds],
        handler_map={tuple: HandlerTuple(ndivide=None)},
        loc='upper left',
        bbox_to_anchor=(0, 1),
        borderaxespad=0.2,
        handlelength=2.6,
        labelspacing=0.3,
        fontsize=TEXT,
        frameon=False,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
        _fit(text, _WIDTH - 0.45)
    return legend.get_window_extent().height / _DPI + _EDGE


def _fit(text: 'Text', width: float) -> None:
    """Take letters out of the middle of a text that is too wide."""
    label = text.get_text()
    half = min(len(label) // 2, _MOST_LETTERS)
    while _width(text) > width and half > 1:
        half -= 1
        text.set_text(f'{label[:half]}…{label[-half:]}')
