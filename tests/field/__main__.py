"""The configs that packages of OpenMMLab ship, with new blocks in them.

    make field                              # a sample of each package
    make field FIELD='--package mmseg --sample 5'
    make field FIELD='--package mmpretrain --only convnext'  # of the sample
    make field FIELD='--package mmdet --all --paths --json mmdet.json'

Each config is tried in a process of its own (`trial.py` says what has to
hold), a line for each, then a table. The exit status is 1 if something does
not hold for one of them.
"""

import argparse
import json
import os
import resource
import socket
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from apart import each_apart
from packages import PACKAGES, bring, choose, reason, root
from trial import Result, try_config

WORKERS = 2
SECONDS = 300  # of processor time for a config
_MEMORY = 8 << 30  # bytes of addresses for a config
_SAMPLE = 30


def try_package(
    words: Tuple[str, Optional[int], int, bool, str],
) -> List[Result]:
    """Try configs of a package; prints each.

    Args:
        words (tuple): The package, how many configs of different models or
            None for all files, the seed that chooses them and draws what is
            done to them, whether to try rules on paths alone, and a part of
            the names of those to try.
    """
    name, sample, seed, paths, only = words
    _prepare(name)
    try:
        bring(name)
    except Exception as error:  # the package's
        traceback.print_exc()
        return [Result(name, '', reason=reason(error, name))]
    chosen = list(choose(name, sample, seed))
    new = [file for file, other in chosen if not other]
    tried = [file for file in new if only in file]
    done: Dict[str, Result] = {}
    with tempfile.TemporaryDirectory() as folder:

        def attempt(file: str) -> Result:
            number = new.index(file)
            own = Path(folder, str(number))
            own.mkdir()
            store = torch.distributed.HashStore()
            torch.distributed.init_process_group(  # which SyncBN asks for
                'gloo', store=store, rank=0, world_size=1
            )
            return try_config(Result(name, file), own, seed + number, paths)

        for file, result, why in each_apart(attempt, tried, WORKERS, SECONDS):
            done[file] = result or Result(name, file, reason=why)
            print(done[file], flush=True)
    for file, other in chosen:
        if other in done:
            done[file] = replace(done[other], config=file, same_as=other)
            print(done[file], flush=True)
    return [done[file] for file, _ in chosen if file in done]


def _prepare(name: str) -> None:
    def refuse(*_: Any) -> None:
        raise OSError('the trial works without network')

    socket.socket.connect = refuse
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    os.chdir(root(name).parent)  # some configs name others, from here


def table(results: Sequence[Result]) -> str:
    """What became of the configs of each package, as Markdown."""
    lines = [
        '| package | tried | ran | network run | started | differences '
        '| why not |',
        '| --- | --- | --- | --- | --- | --- | --- |',
    ]
    for name, package in PACKAGES.items():
        some = [r for r in results if r.package == name]
        ran = [r for r in some if r.status != 'not run']
        reasons = Counter(r.reason for r in some if r.reason)
        cells = [
            f'{package.distribution} {package.version}',
            len([r for r in some if r.config]),
            len(ran),
            sum(not r.check for r in ran),
            sum(not r.start for r in ran),
            sum(r.status == 'differs' for r in ran),
            '; '.join(f'{n}: {why}' for why, n in reasons.most_common()),
        ]
        if some:
            lines.append(f'| {" | ".join(map(str, cells))} |')
    return '\n'.join(lines)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Try configs and print what becomes of them.

    Returns:
        int: 1 if something does not hold for one of them, else 0.
    """
    parser = argparse.ArgumentParser(
        prog='tests/field',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('--package', choices=PACKAGES, nargs='+', default=list(PACKAGES))
    add('--sample', type=int, default=_SAMPLE, help='configs of each')
    add('--only', default='', help='those of them with this in their names')
    add('--all', action='store_true', help='all configs')
    add('--paths', action='store_true', help='rules on paths alone, quickly')
    add('--seed', type=int, default=0)
    add('--json', metavar='FILE', help='write results there')
    args = parser.parse_args(argv)
    begun = time.perf_counter()
    sample = None if args.all else args.sample
    results: List[Result] = []
    given = sample, args.seed, args.paths, args.only
    words = [(name, *given) for name in args.package]
    for (name, *_), some, why in each_apart(try_package, words):
        results += some or [Result(name, '', reason=why)]
    print(f'\n{table(results)}\n\n{time.perf_counter() - begun:.0f} s')
    if args.json:
        with open(args.json, 'w', encoding='utf-8') as file:
            json.dump([asdict(r) for r in results], file, indent=1)
    return int(any(r.status == 'differs' for r in results))


if __name__ == '__main__':
    sys.exit(main())
