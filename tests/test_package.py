"""What users install: the wheel and the sdist, in and out again."""

import email
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmpartinit import __version__

ROOT = Path(__file__).parents[1]
NAME = f'mmpartinit-{__version__}'
# Of the top of the repository, what the sdist has.
TOP = (
    '.pre-commit-config.yaml',
    'CHANGELOG.md',
    'CITATION.cff',
    'CONTRIBUTING.md',
    'LICENSE',
    'MANIFEST.in',
    'Makefile',
    'README.md',
    'README_zh-CN.md',
    'constraints.txt',
    'mmpartinit_cli.py',
    'noxfile.py',
    'pyproject.toml',
    'setup.cfg',
)
FOLDERS = ('configs', 'docs', 'mmpartinit', 'tests')
LEFT_BY_TOOLS = shutil.ignore_patterns(
    '.*', '__pycache__', '*.egg-info', '_build', 'build', 'dist', 'work_dirs'
)


def run(*command: Any, **options: Any) -> str:
    """What a process printed that went well."""
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        **options,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files(folder: Path) -> 'set[str]':
    """What is in a folder, relative to it; links are not followed."""
    return {
        os.path.relpath(os.path.join(place, name), folder)
        for place, folders, names in os.walk(folder)
        for name in names + [f for f in folders if Path(place, f).is_symlink()]
    }


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """A copy of the repository as it is checked out."""
    copy = tmp_path_factory.mktemp('source') / 'copy'
    copy.mkdir()
    for name in TOP:
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, copy)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copy / name, ignore=LEFT_BY_TOOLS)
    return copy


@pytest.fixture(scope='module')
def built(source, tmp_path_factory):
    """The sdist, and the wheel that is built from it."""
    there = files(source)
    folder = tmp_path_factory.mktemp('dist')
    command = ['-m', 'build', '--no-isolation', '--outdir', folder, source]
    run(sys.executable, *command, cwd=folder)
    (sdist,), (wheel,) = folder.glob('*.tar.gz'), folder.glob('*.whl')
    return sdist, wheel, there


def test_the_sdist_has_the_sources_the_tests_and_nothing_else(built):
    sdist, _, there = built
    with tarfile.open(sdist) as archive:
        names = {m.name for m in archive.getmembers() if m.isfile()}
    made = {
        'PKG-INFO',
        *(
            f'mmpartinit.egg-info/{name}'
            for name in (
                'PKG-INFO',
                'SOURCES.txt',
                'dependency_links.txt',
                'entry_points.txt',
                'requires.txt',
                'top_level.txt',
            )
        ),
    }
    assert names == {f'{NAME}/{name}' for name in there | made}


def test_the_tests_run_from_the_sdist(built, tmp_path):
    with tarfile.open(built[0]) as archive:
        archive.extractall(tmp_path)
    where = 'import mmpartinit; print(mmpartinit.__file__)'
    folder = tmp_path / NAME
    here = run(sys.executable, '-c', where, cwd=folder).strip()
    assert here == str(folder / 'mmpartinit' / '__init__.py')
    pytest_ = ['-m', 'pytest', '-p', 'no:cacheprovider']
    rules = 'tests/rules/test_rules.py'
    assert ' passed' in run(sys.executable, *pytest_, rules, cwd=folder)


def test_the_wheel_has_the_package_and_nothing_else(built):
    with zipfile.ZipFile(built[1]) as archive:
        names = set(archive.namelist())
        licence = next(name for name in names if name.endswith('LICENSE'))
        text = archive.read(licence).decode()
    assert text == (ROOT / 'LICENSE').read_text()
    info = f'{NAME}.dist-info'
    assert names - {licence} == {
        *(n for n in built[2] if n.startswith(('mmpartinit/', 'mmpartinit_'))),
        *(
            f'{info}/{name}'
            for name in (
                'METADATA',
                'RECORD',
                'WHEEL',
                'entry_points.txt',
                'top_level.txt',
            )
        ),
    }
    others = {n for n in names if not n.endswith('.py')}
    assert 'mmpartinit/py.typed' in others
    assert {n for n in others if not n.startswith(info)} == {
        'mmpartinit/py.typed'
    }
    assert 'mmpartinit/demo/configs/pretrain.py' in names


def test_the_metadata_asks_for_nothing_but_by_an_extra(built):
    with zipfile.ZipFile(built[1]) as archive:
        metadata = email.message_from_bytes(
            archive.read(f'{NAME}.dist-info/METADATA')
        )
    assert (metadata['Name'], metadata['Version']) == (
        'mmpartinit',
        __version__,
    )
    assert metadata['Requires-Python'] == '>=3.8'
    assert metadata.get_payload().strip().startswith('# mmpartinit')
    wanted = metadata.get_all('Requires-Dist')
    assert wanted
    for requirement in wanted:
        assert re.search(r'; .*\bextra ?==', requirement), requirement


def test_the_version_is_in_one_place():
    assert f'\n## [{__version__}]' in (ROOT / 'CHANGELOG.md').read_text()
    for name in ('setup.cfg', 'pyproject.toml', 'CITATION.cff', 'noxfile.py'):
        lines = (ROOT / name).read_text().splitlines()
        ours = [line for line in lines if re.match(r'\s*version\b', line)]
        assert all('mmpartinit.version' in line for line in ours), name


def test_the_citation_file_has_what_the_format_asks_for():
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
    required = {'cff-version', 'message', 'title', 'authors'}
    assert required <= set(citation)
    assert citation['cff-version'] == '1.2.0'
    assert citation['license'] == 'Apache-2.0'
    assert citation['authors'] == [{'name': 'mmpartinit contributors'}]


@pytest.fixture
def clean(tmp_path):
    """An environment with all that is installed here, except mmpartinit."""
    links = tmp_path / 'links'
    links.mkdir()
    for entry in Path(sysconfig.get_path('purelib')).iterdir():
        ours = entry.name.startswith(('mmpartinit', '__editable__'))
        if not ours and entry.name != 'easy-install.pth':
            (links / entry.name).symlink_to(entry)
    folder = tmp_path / 'venv'
    run(sys.executable, '-m', 'venv', '--without-pip', folder)
    (packages,) = folder.glob('lib/python*/site-packages')
    # With its .pth files: setuptools' one has distutils for Python 3.12.
    line = f'import site; site.addsitedir({str(links)!r})\n'
    (packages / 'links.pth').write_text(line)
    return folder


DISTRIBUTIONS = """\
from importlib.metadata import distributions
for found in distributions():
    files = {str(file) for file in found.files or ()}
    engine = 'mmengine/__init__.py' in files
    print(found.metadata['Name'], found.version, engine)
"""


def test_the_wheel_goes_in_works_and_goes_out(built, clean, tmp_path):
    elsewhere = tmp_path / 'elsewhere'
    elsewhere.mkdir()
    env = {**os.environ, 'PYTHONDONTWRITEBYTECODE': '1'}
    env.pop('PYTHONPATH', None)

    def do(*command):
        return run(*command, cwd=elsewhere, env=env)

    def distributions():
        return set(do(python, '-c', DISTRIBUTIONS).splitlines())

    python, ours = clean / 'bin' / 'python', clean / 'bin' / 'mmpartinit'
    before, others = files(clean), distributions()
    assert not any(name.startswith('mmpartinit ') for name in others)
    # What it requires, pip would have to find here or fail.
    do(python, '-m', 'pip', 'install', '--no-index', '--no-compile', built[1])
    assert distributions() - others == {f'mmpartinit {__version__} False'}
    assert others < distributions()
    assert sum(name.endswith(' True') for name in others) == 1

    where = do(python, '-c', 'import mmpartinit; print(mmpartinit.__file__)')
    assert where.startswith(str(clean))
    assert do(ours, '--version').split() == ['mmpartinit', __version__]
    assert 'suggest' in do(ours, '--help')
    said = do(ours, 'demo', '--seeds', '1', '--work-dir', tmp_path / 'demo')
    assert 'with SE, no hook' in said
    assert (tmp_path / 'demo' / 'accuracy.png').stat().st_size > 10_000
    assert files(elsewhere) == set()

    do(python, '-m', 'pip', 'uninstall', '--yes', 'mmpartinit')
    assert files(clean) == before
    assert distributions() == others
