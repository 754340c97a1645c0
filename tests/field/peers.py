"""Other projects' own tests, with mmpartinit imported and without.

    python tests/field/peers.py SOURCE [TEST ...]
    python tests/field/peers.py mmengine/ tests/test_hooks tests/test_model
    python tests/field/peers.py accelerate==1.15.0 tests/test_modeling_utils.py

``SOURCE`` is a folder with a project's source, or what pip can get the source
of (of those tried, accelerate's has its tests in it). The project itself and
what its tests need must be installed. Each test is run in both ways; those
that come out differently are run once more by themselves, since some do so
by chance. Exit 1 if a difference stays.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from pathlib import Path
from typing import Dict, List, Sequence
from xml.etree import ElementTree

from packages import bring_torchvision, has_torchvision

# `-p NAME` imports a module before anything else.
WAYS = dict(without=(), **{'with': ('-p', 'mmpartinit')})
HERE = Path(__file__).parent


def pytest_configure() -> None:
    """Of this file as a plugin: torchvision as the other programs have it."""
    if has_torchvision():
        bring_torchvision()


def source(name: str, folder: str) -> Path:
    """The source of a project, downloaded where it is not there."""
    if Path(name).is_dir():
        return Path(name).resolve()
    options = '--no-deps --no-binary :all: --no-build-isolation'.split()
    subprocess.run(
        [sys.executable, '-m', 'pip', 'download', '-q', *options]
        + ['-d', folder, name],
        check=True,
    )
    (archive,) = Path(folder).glob('*.tar.gz')
    with tarfile.open(archive) as file:
        file.extractall(folder, filter='data')
    return Path(folder) / archive.name[: -len('.tar.gz')]


def outcomes(
    root: Path, tests: Sequence[str], options: Sequence[str]
) -> Dict[str, str]:
    """What comes of each test, by its name."""
    path = [str(HERE), *filter(None, [os.environ.get('PYTHONPATH')])]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / 'results.xml'
        done = subprocess.run(
            [sys.executable, '-m', 'pytest', '-q', *options, *tests]
            + ['-p', 'no:cacheprovider', '-p', 'peers', f'--junitxml={file}']
            + ['--continue-on-collection-errors'],
            cwd=root,
            env={**os.environ, 'PYTHONPATH': os.pathsep.join(path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if not file.exists():
            sys.exit(f'the tests did not run:\n{done.stdout[-3000:]}')
        cases = ElementTree.parse(file).iter('testcase')
    found = {}
    for case in cases:
        name = f'{case.get("classname")}::{case.get("name")}'
        found[name] = next(
            (
                kind
                for kind in ('failure', 'error', 'skipped')
                if case.find(kind) is not None
            ),
            'passed',
        )
    if 'passed' not in found.values():
        sys.exit(f'no test passed:\n{done.stdout[-3000:]}')
    return found


def differences(
    root: Path, tests: Sequence[str], names: Sequence[str] = ()
) -> List[str]:
    """Run tests in both ways, and say what differs of those named, or all."""
    found = {how: outcomes(root, tests, o) for how, o in WAYS.items()}
    for how, results in found.items():
        counts = Counter(results.values()).items()
        print(f'{how}:', ', '.join(f'{n} {kind}' for kind, n in counts))
    every = {**found['without'], **found['with']}
    return [
        name
        for name in names or every
        if len({results.get(name) for results in found.values()}) > 1
    ]


def main() -> int:
    """Run them."""
    with tempfile.TemporaryDirectory() as folder:
        root = source(sys.argv[1], folder)
        tests = sys.argv[2:] or ['tests']
        left = differences(root, tests)
        if left:
            print('once more, for', *left, sep='\n  ')
            left = differences(root, tests, left)
    print('\n  '.join(['differ:', *left]) if left else 'no difference')
    return int(bool(left))


if __name__ == '__main__':
    sys.exit(main())
