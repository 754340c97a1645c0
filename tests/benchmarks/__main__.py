"""All benchmarks, as one table of ratios.

    make bench            # five runs, compared with the saved table
    make bench BENCH=--save  # ... which they then replace, and its figure
    make bench BENCH='matches --save'  # ... of some groups of rows only
    .venv/bin/python tests/benchmarks blocks  # another table: `blocks/`

Each row is measured in a process of its own, on one thread. A ratio is the
median of many turns; of the runs, the table has the middle one and the spread.
Nothing here passes or fails.
"""

import argparse
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

HERE = Path(__file__).parent
SAVED = HERE / 'table.json'
FIGURE = HERE.parents[1] / 'docs' / 'en' / '_static' / 'benchmarks.svg'
GROUPS = (
    'initializing',
    'matches',
    'recording',
    'planning',
    'memory',
    'importing',
    'starting',
    'adapters',
    'saving',
    'suggesting',
)


def main() -> None:
    """Run what is asked for, and show it."""
    if sys.argv[1:2] == ['blocks']:
        from blocks.program import main as of_blocks

        sys.exit(of_blocks(sys.argv[2:]))
    parser = argparse.ArgumentParser(prog='tests/benchmarks')
    parser.add_argument('groups', nargs='*', default=GROUPS)
    parser.add_argument('--runs', type=int, default=5)
    parser.add_argument('--save', action='store_true')
    parser.add_argument('--one', metavar='FILE', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        measure(args.groups[0], args.one)
        return
    from table import compare, draw, show

    runs = [run(group) for _ in range(args.runs) for group in args.groups]
    table = dict(machine=machine(), rows=merge(sum(runs, [])))
    show(table)
    saved = json.loads(SAVED.read_text())
    compare(table, saved)
    if args.save:
        if len(args.groups) < len(GROUPS):
            table['rows'] = renewed(saved['rows'], table['rows'])
        SAVED.write_text(json.dumps(table, indent=1) + '\n')
        draw(table, FIGURE)


def run(group: str) -> list:
    """Measure a group of rows in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / 'rows.json'
        print(f'measuring: {group}', file=sys.stderr, flush=True)
        done = subprocess.run(
            [sys.executable, '-W', 'ignore', str(HERE), group]
            + ['--one', str(file)],
            env={**os.environ, 'OMP_NUM_THREADS': '1'},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            sys.exit(f'{done.stdout[-3000:]}\n{group} failed')
        return json.loads(file.read_text())


def measure(group: str, file: str) -> None:
    """Measure a group of rows in this process."""
    rows = importlib.import_module(group).rows()
    Path(file).write_text(json.dumps([asdict(row) for row in rows]))


def merge(rows: list) -> list:
    """The middle one of the runs of each row, and all their ratios."""
    merged = {}
    for row in rows:
        merged.setdefault(row['name'], []).append(row)
    table = []
    for members in merged.values():
        ratios = sorted(row['ratio'] for row in members)
        middle = statistics.median_low(ratios)
        row = next(row for row in members if row['ratio'] == middle)
        table.append({**row, 'runs': ratios})
    return table


def renewed(saved: list, rows: list) -> list:
    """Saved rows, with those measured anew in their places."""
    table = list(saved)
    place = len(table) - 1
    for row in rows:
        names = [known['name'] for known in table]
        if row['name'] in names:
            place = names.index(row['name'])
            table[place] = row
        else:
            place += 1
            table.insert(place, row)
    return table


def machine() -> dict:
    """What it was measured on."""
    import mmdet
    import mmengine
    import torch

    return dict(
        cores=os.cpu_count(),
        python=platform.python_version(),
        torch=torch.__version__,
        mmengine=mmengine.__version__,
        mmdet=mmdet.__version__,
    )


if __name__ == '__main__':
    main()
