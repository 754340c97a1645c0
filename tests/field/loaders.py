"""Weights that other packages load, against the truth.

    python tests/field/loaders.py [PACKAGE or WAY ...]

Each way makes a small model of a package's from files that were made up, twice
with other values: what comes out another is decided by the file, by whatever
code. A Runner's report has to say so of every tensor, and rules for the whole
model have to leave it alone. One line a way, and exit 1 where one is wrong.
"""

import importlib
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Dict, NamedTuple

import torch

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / 'model')]

import of_libraries  # noqa: E402, F401
import of_zoos  # noqa: E402, F401
from loading import LOADERS  # noqa: E402
from packages import PACKAGES, bring, bring_torchvision  # noqa: E402
from test_ways import (  # noqa: E402
    NEW,
    check_kept,
    check_origins,
    everything,
    start,
)
from toy import Runner, find, report_of  # noqa: E402
from ways import Seen, truth  # noqa: E402


class Result(NamedTuple):
    """What came of a way: how many tensors there are, how many of them a file
    decided, what the report says of these, and what is wrong.
    """

    tensors: int
    decided: int
    said: Dict[str, int]
    wrong: str


def tried(name: str, folder: Path) -> Result:
    """Try a way."""
    paths = []
    for seed in (5, 7):
        path = folder / name / str(seed)
        path.mkdir(parents=True)
        torch.manual_seed(seed)
        with torch.no_grad():
            LOADERS[name].save(path)
        paths.append(str(path))
    facts = truth(name, *paths)
    decided = [
        key
        for key, fact in facts.items()
        if fact.by_file.any() and key.startswith('net.')
    ]
    work = str(folder / name / 'work')
    wrong, said = [], Counter()
    try:
        runner = start(Runner, work, name, paths[0], [NEW])
        report = report_of(runner)
        origins = {t.name: t.origin for t in report.tensors}
        said = Counter(origins[key] for key in decided)
        by_rule = {f'new.{key}': ('rule',) for key in ('weight', 'bias')}
        check_origins(name, facts, report, **by_rule)
    except AssertionError as error:
        wrong.append(str(error))
    try:
        rules = everything(name)
        runner = start(Runner, work, name, paths[0], rules)
        seen = find(runner, Seen)
        check_kept(name, facts, seen.before, seen.start)
    except AssertionError as error:
        wrong.append(str(error))
    count = sum(key.startswith('net.') for key in facts)
    return Result(count, len(decided), dict(said), '\n'.join(wrong))


def brought(package: str) -> str:
    """Import a package; gives its version."""
    if package in PACKAGES:
        bring(package)
    else:
        bring_torchvision()
    return importlib.import_module(package).__version__


def main() -> int:
    """Try what is asked for, or all of it."""
    words = sys.argv[1:]
    names = [
        name
        for name, loader in LOADERS.items()
        if not words or name in words or loader.package in words
    ]
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            loader = LOADERS[name]
            try:
                version = brought(loader.package)
            except ImportError as error:
                print(f'{loader.package:13} {name:24} not tried: {error}')
                failed += 1
                continue
            found = tried(name, Path(folder))
            said = ', '.join(f'{n} {k}' for k, n in found.said.items())
            print(
                f'{loader.package + " " + version:20} {name:24} '
                f'{found.decided} of {found.tensors} by the file: {said}'
            )
            if found.wrong:
                failed += 1
                print(found.wrong)
    print(f'{len(names)} ways, {failed} wrong or not tried')
    return int(bool(failed))


if __name__ == '__main__':
    sys.exit(main())
