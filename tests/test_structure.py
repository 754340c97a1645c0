"""The house: imports go one way, rooms are small, and the map names each."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'mmpartinit'
FILES = [p for p in PACKAGE.rglob('*.py') if 'configs' not in p.parts]
# Where a Runner is known: what lives in one, and what runs one.
KNOW_A_RUNNER = {'hook.py', 'demo'}


def imported(path):
    """Files of the package that one of its files imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = path.parents[node.level - 1]
            target = folder.joinpath(*(node.module or '').split('.'))
            for name in node.names:
                below = target / f'{name.name}.py'
                found.add(below if below.exists() else target)
    files = {p if p.suffix else p.with_suffix('.py') for p in found}
    return {p if p.exists() else p.with_suffix('') for p in files}


def test_no_file_imports_what_imports_it():
    imports = {path: imported(path) for path in FILES}
    assert PACKAGE / 'plan.py' in imports[PACKAGE / 'hook.py']
    done = set()
    while len(done) < len(imports):
        ready = {p for p in imports if imports[p] & imports.keys() <= done}
        assert ready - done, f'circles among {imports.keys() - done}'
        done |= ready


def test_only_the_hook_knows_a_runner():
    for path in FILES:
        names = {
            getattr(node, 'id', getattr(node, 'arg', None))
            for node in ast.walk(ast.parse(path.read_text(encoding='utf-8')))
        }
        parts = path.relative_to(PACKAGE).parts
        assert ('runner' in names or 'Runner' in names) == (
            parts[0] in KNOW_A_RUNNER
            and parts[-1] not in ('__init__.py', 'digits.py')
        ), path


def test_the_map_names_every_file():
    text = (ROOT / 'CONTRIBUTING.md').read_text(encoding='utf-8')
    named = set(re.findall(r'`(\w+\.py)`', text))
    for path in FILES:
        if not path.name.startswith('__') and path.parent.name != 'demo':
            assert path.name in named, path
    assert {n for n in named if n.startswith('test_')} <= {
        p.name for p in (ROOT / 'tests').rglob('*.py')
    }


def test_rooms_are_small():
    for path in FILES:
        lines = path.read_text(encoding='utf-8').splitlines()
        assert len(lines) <= (120 if path.name == 'hook.py' else 300), path
        assert lines[0].startswith('"""'), path
