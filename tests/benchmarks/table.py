"""The table of ratios: as text, as a figure, and beside an older one."""

import textwrap
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

SLOWER = 1.1


def show(table: dict) -> None:
    """Print it."""
    text = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ('what', 'against', 'ratio', 'of runs', 'at most', 'times'):
        text.add_column(heading)
    for row in table['rows']:
        runs, limit = row['runs'], row['limit']
        unit = row['unit']
        text.add_row(
            row['what'],
            row['against'],
            f'{row["ratio"]:.2f}',
            f'{runs[0]:.2f}–{runs[-1]:.2f}',
            '' if limit is None else f'{limit}',
            f'{row["ours"]:.1f} : {row["peer"]:.1f} {unit}',
        )
    Console(width=118).print(text)


def compare(table: dict, saved: dict) -> None:
    """Print what got slower than in a saved table, beyond its spread."""
    before = {row['name']: row for row in saved['rows']}
    slower = [
        f'{row["name"]}: {row["ratio"]:.2f} instead of '
        f'{before[row["name"]]["ratio"]:.2f}'
        for row in table['rows']
        if row['name'] in before
        and row['runs'][0] > SLOWER * before[row['name']]['runs'][-1]
    ]
    print('\n'.join(['slower than the saved table:', *slower]))
    if not slower:
        print('nothing')


def draw(table: dict, path: Path) -> None:
    """Draw each ratio, its spread and its limit."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    rows = table['rows']
    figure = Figure(figsize=(7.2, 0.55 * len(rows) + 0.9))
    axes = figure.add_axes([0.5, 0.08, 0.47, 0.9])
    for place, row in enumerate(rows):
        runs, limit = row['runs'], row['limit']
        met = limit is None or row['ratio'] <= limit
        axes.plot(
            [runs[0], runs[-1]], [place] * 2, color='#0072B2', linewidth=3
        )
        axes.plot(
            row['ratio'],
            place,
            marker='o' if met else 'D',
            color='#0072B2' if met else '#D55E00',
            markersize=6,
        )
        axes.annotate(
            f'{row["ratio"]:.2f}',
            (row['ratio'], place),
            (0, 6),
            textcoords='offset points',
            ha='center',
            fontsize=8,
        )
        if limit is not None:
            axes.plot(
                limit, place, marker='|', color='0.2', markersize=15, mew=1.4
            )
    axes.set_yticks(
        range(len(rows)),
        [
            '\n'.join(textwrap.wrap(f'{row["what"]} / {row["against"]}', 68))
            for row in rows
        ],
        fontsize=6.5,
    )
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xscale('log')
    ticks = [0.1, 0.2, 0.5, 1, 2, 5]
    axes.set_xticks(ticks, [str(tick) for tick in ticks], fontsize=8)
    axes.minorticks_off()
    axes.axvline(1, color='0.8', linewidth=0.8, zorder=0)
    axes.set_xlabel(
        'ratio; bar: the limit set for it; line: spread of the runs',
        fontsize=8,
    )
    for side in ('top', 'right', 'left'):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis='y', length=0)
    # The same file for the same table.
    with rc_context({'svg.hashsalt': 'benchmarks'}):
        figure.savefig(path, metadata=dict(Date=None))
