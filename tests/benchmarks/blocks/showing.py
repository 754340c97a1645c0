"""The table of blocks: as text, as Markdown, as a figure."""

from pathlib import Path
from typing import Any, Dict, List

from rich import box
from rich.console import Console
from rich.table import Table

from .criteria import count, problems
from .measure import Row
from .pages import name_in

# Okabe and Ito's, which the colour-blind can tell from each other.
BLUE, ORANGE, BLACK = '#0072B2', '#D55E00', '#000000'
# Of the figure, and a font that has them.
LABELS = dict(
    en=(
        'DejaVu Sans',
        ('first place', 'second place'),
        'accuracy at iteration 0 (%)',
        ('without the hook', 'as suggested', 'pretrained'),
    ),
    zh_cn=(
        'Noto Sans CJK SC',
        ('位置一', '位置二'),
        '第 0 次迭代的准确率（%）',
        ('不用钩子', '使用建议的规则', '预训练网络'),
    ),
)
HEADINGS = (
    'block',
    'place',
    'without',
    'suggested',
    'without, 60',
    'suggested, 60',
    'moves',
    'suggest says',
)


def show(table: Dict[str, Any]) -> None:
    """Print the table, and what does not hold."""
    start, trained = table['pretrained']
    text = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        title='Accuracy (%) at iteration 0, mean of three seeds, and after 60 '
        f'iterations; without a block: {start:.1f} and {trained:.1f}',
    )
    for number, heading in enumerate(HEADINGS):
        text.add_column(heading, justify='right' if 2 <= number < 7 else None)
    text.add_column('does not hold')
    for row in table['rows']:
        text.add_row(*_cells(row), '; '.join(problems(row, start)))
    console = Console(width=190, highlight=False)
    console.print(text)
    for problem, number in count(table['rows'], start).items():
        console.print(f'{number:4} of {len(table["rows"])}: {problem}')


def _cells(row: Row) -> List[str]:
    moving = row.movable - len(row.stuck)
    return [
        row.block,
        row.place,
        *(f'{mean:.1f}' for mean in row.means),
        f'{row.before_trained:.1f}',
        f'{row.pasted_trained:.1f}',
        f'{moving} of {row.movable}',
        row.outcome,
    ]


def markdown(table: Dict[str, Any]) -> str:
    """The table as the docs have it."""
    lines = [f'| {" | ".join(HEADINGS)} |', '| --- ' * len(HEADINGS) + '|']
    for row in table['rows']:
        lines.append(f'| {" | ".join(_cells(row))} |')
    return '\n'.join(lines)


def draw(table: Dict[str, Any], path: Path, language: str = 'en') -> None:
    """Draw accuracy at iteration 0: without the hook, and as suggested.

    Args:
        table (dict): The table.
        path (Path): File to write; its ending says the format.
        language (str): ``'en'`` or ``'zh_cn'``. Defaults to ``'en'``.
    """
    from matplotlib import rc_context
    from matplotlib.font_manager import findfont

    font = LABELS[language][0]
    findfont(font, fallback_to_default=False)  # an error where there is none
    with rc_context({'font.family': font}):
        _drawn(table, language).savefig(path, dpi=120)


def _drawn(table: Dict[str, Any], language: str) -> Any:
    from matplotlib.figure import Figure

    _, places, axis, (before, pasted, without) = LABELS[language]
    blocks: Dict[str, List[Row]] = {}
    for row in table['rows']:
        blocks.setdefault(row.block, []).append(row)
    figure = Figure(figsize=(7.2, 0.15 * len(blocks) + 1.0))
    figure.set_layout_engine('constrained')
    panels = figure.subplots(1, 2, sharey=True)
    for panel, axes in enumerate(panels):
        for line, rows in enumerate(blocks.values()):
            if panel < len(rows):
                _dumbbell(axes, line, rows[panel])
        axes.axvline(table['pretrained'][0], color=BLACK, lw=0.8, zorder=0)
        axes.set_xlim(0, 103)
        axes.set_title(places[panel], fontsize=8)
        axes.tick_params(axis='x', labelsize=8)
        axes.tick_params(axis='y', length=0, labelsize=6.5)
        axes.grid(axis='x', alpha=0.25)
        axes.spines[['top', 'right', 'left']].set_visible(False)
    names = [name_in(name, language).replace('`', '') for name in blocks]
    panels[0].set_yticks(range(len(blocks)), names)
    panels[0].set_ylim(len(blocks) - 0.5, -0.5)
    figure.supxlabel(axis, fontsize=8)
    axes.scatter([], [], 22, ORANGE, label=before)
    axes.scatter([], [], 14, BLUE, label=pasted)
    axes.plot([], [], color=BLACK, lw=0.8, label=without)
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc='outside upper right',
        ncols=3,
        frameon=False,
        fontsize=8,
    )
    return figure


def _dumbbell(axes: Any, line: int, row: Row) -> None:
    before, pasted = row.means
    axes.plot([before, pasted], [line] * 2, color='0.75', lw=1.2, zorder=1)
    axes.scatter(before, line, 20, ORANGE, zorder=2)
    axes.scatter(pasted, line, 12, BLUE, zorder=3)
