"""The words, all cases, and what is shown of them."""

import argparse
import json
import multiprocessing
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import torch
from rich.progress import track

from .cases import Case
from .choosing import choose
from .criteria import count
from .measure import Row, measure, reference
from .pages import DOCS, HEADS, fill
from .running import pretrained
from .showing import draw, markdown, show

SAVED = Path(__file__).with_name('table.json')
FIGURES = {name: DOCS / name / '_static' / 'blocks.png' for name in HEADS}


def main(words: Optional[List[str]] = None) -> int:
    """Measure what is asked for and show it; 1 where something fails."""
    options = _parse(words)
    if options.show:
        table = load(options.show)
    else:
        table = run(choose(*options.only), options.jobs, options.json)
    show(table)
    if options.figure:
        draw(table, options.figure)
    if options.markdown:
        print(markdown(table))
    if options.save:
        save(table, SAVED)
        for language, path in FIGURES.items():
            draw(table, path, language)
        fill(table)
    return int(any(count(table['rows'], table['pretrained'][0]).values()))


def _parse(words: Optional[List[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='tests/benchmarks blocks')
    parser.add_argument(
        '--only', nargs='+', default=(), metavar='PATTERN', help='names'
    )
    parser.add_argument(
        '--jobs', type=int, default=1, help='how many processes'
    )
    parser.add_argument('--json', type=Path, help='keep the numbers there')
    parser.add_argument('--figure', type=Path, help='draw them')
    parser.add_argument(
        '--markdown', action='store_true', help='print the table of the docs'
    )
    parser.add_argument(
        '--save',
        action='store_true',
        help='keep the numbers of all blocks, for the figure and the tables '
        'of the docs',
    )
    parser.add_argument(
        '--show', type=Path, metavar='JSON', help='show kept numbers'
    )
    return parser.parse_args(words)


def run(
    cases: List[Case], jobs: int = 1, file: Optional[Path] = None
) -> Dict[str, Any]:
    """Measure cases: the rows, and the accuracies of the network without any
    block, before training and after.

    Args:
        cases (list[Case]): What to measure.
        jobs (int): How many processes. Defaults to 1: this one.
        file (Path, optional): Where to keep the rows as they come.
    """
    weights = pretrained()
    with tempfile.TemporaryDirectory() as folder:
        table: Dict[str, Any] = dict(
            pretrained=reference(weights, Path(folder)), rows=[]
        )
        # Rows as they come, in a terminal that shows how far it is.
        for row in track(
            _rows(cases, weights, folder, jobs),
            'measuring',
            total=len(cases),
            disable=not sys.stderr.isatty(),
        ):
            table['rows'].append(row)
            if file:
                save(table, file)
    return table


def _rows(
    cases: List[Case], weights: str, folder: str, jobs: int
) -> Iterator[Row]:
    work = []
    for number, case in enumerate(cases):
        own = Path(folder, str(number))
        own.mkdir()
        work.append((case, weights, own))
    if jobs == 1:
        torch.set_num_threads(1)  # the layers are small
        yield from map(_measure, work)
        return
    # Forked ones would share the locks of torch's threads.
    context = multiprocessing.get_context('spawn')
    with context.Pool(jobs, torch.set_num_threads, (1,)) as pool:
        yield from pool.imap(_measure, work)


def _measure(work: Any) -> Row:
    return measure(*work)


def save(table: Dict[str, Any], path: Path) -> None:
    """Write a table as JSON."""
    rows = [row.to_dict() for row in table['rows']]
    text = json.dumps(dict(table, rows=rows), indent=1, ensure_ascii=False)
    path.write_text(f'{text}\n')


def load(path: Path) -> Dict[str, Any]:
    """Read a table."""
    table = json.loads(path.read_text())
    return dict(table, rows=[Row(**row) for row in table['rows']])
