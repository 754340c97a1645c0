"""The layout: imports go one way, files are small, the map is whole."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'mmpartinit'
FILES = [
    path
    for path in sorted(PACKAGE.rglob('*.py'))
    if PACKAGE / 'demo' / 'configs' not in path.parents
]
# From the top down: each imports from what is below it only.
WAY = [
    '__main__',
    'command',
    'trial',
    'demo',
    '__init__',
    'hook',
    'freezing',
    'start',
    'functions',
    'plan',
    'report',
    'writing',
    'checks',
    'rules',
    'model',
    'initializers',
    'processes',
    'seeding',
    'errors',
    'version',
]
# Where a Runner is known: what lives in one, and what runs one.
KNOW_A_RUNNER = {'hook.py', 'start.py', 'demo'}


def part_of(path):
    """The folder or flat file of the package that a path belongs to."""
    return path.relative_to(PACKAGE).parts[0].replace('.py', '')


def imported(path):
    """Files of the package that one of its files imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = path.parents[node.level - 1]
            target = folder.joinpath(*(node.module or '').split('.'))
            for name in node.names:
                below = target / f'{name.name}.py'
                module = target.with_suffix('.py')
                found.add(
                    below
                    if below.exists()
                    else module
                    if module.exists()
                    else target / '__init__.py'
                )
    return found


def test_no_file_imports_what_imports_it():
    imports = {path: imported(path) for path in FILES}
    assert PACKAGE / 'start.py' in imports[PACKAGE / 'hook.py']
    done = set()
    while len(done) < len(imports):
        ready = {p for p in imports if imports[p] & imports.keys() <= done}
        assert ready - done, f'circles among {imports.keys() - done}'
        done |= ready


def test_imports_between_folders_go_one_way():
    assert {part_of(path) for path in FILES} == set(WAY)
    crossed = 0
    for path in FILES:
        for other in imported(path):
            here, there = WAY.index(part_of(path)), WAY.index(part_of(other))
            assert here <= there, f'{path} imports {other}'
            crossed += here < there
    assert crossed > 50


def test_only_the_hook_knows_a_runner():
    for path in FILES:
        names = {
            getattr(node, 'id', getattr(node, 'arg', None))
            for node in ast.walk(ast.parse(path.read_text(encoding='utf-8')))
        }
        parts = path.relative_to(PACKAGE).parts
        assert ('runner' in names or 'Runner' in names) == (
            parts[0] in KNOW_A_RUNNER
            and parts[-1] not in ('__init__.py', 'blocks.py', 'digits.py')
        ), path


def test_the_map_names_every_folder_and_flat_file():
    text = (ROOT / 'CONTRIBUTING.md').read_text(encoding='utf-8')
    rows = re.findall(r'^\| (`.+?) \|', text, re.MULTILINE)
    named = set(re.findall(r'`([\w/]+?)(?:/|\.py)`', ' '.join(rows)))
    assert named >= set(WAY) - {'__init__', '__main__'}
    for path in re.findall(r'`((?:mmpartinit|tests)/[\w/.]+)`', text):
        assert (ROOT / path).exists(), path


def test_files_are_small():
    for path in FILES:
        lines = path.read_text(encoding='utf-8').splitlines()
        assert len(lines) <= (135 if path.name == 'hook.py' else 300), path
        assert lines[0].startswith('"""'), path


def test_the_tests_are_laid_out_as_the_package_is():
    def folders(path):
        return {p.parent.name for p in path.glob('*/*.py')}

    others = {'benchmarks', 'docs', 'field', 'zoo'}
    assert folders(ROOT / 'tests') - others <= folders(PACKAGE)
