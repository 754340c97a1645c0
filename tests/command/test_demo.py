"""The demo and the command, as processes."""

import json
import re
import subprocess
import sys

import pytest

import mmpartinit


def run(*arguments, **options):
    return subprocess.run(
        [sys.executable, '-m', 'mmpartinit', *arguments],
        capture_output=True,
        text=True,
        **options,
    )


def test_the_demo_shows_what_the_hook_is_for(tmp_path):
    done = run('demo', '--seeds', '1', '--work-dir', str(tmp_path / 'demo'))
    assert done.returncode == 0, done.stderr
    line = re.search(r'seed 0: .*', done.stdout)[0]
    plain, without, with_hook = map(float, re.findall(r'([\d.]+) %', line))
    assert plain > 95
    assert abs(plain - with_hook) <= 1
    assert without < plain - 10
    assert 'with SE, no hook' in done.stdout
    figure = (tmp_path / 'demo' / 'accuracy.png').read_bytes()
    assert figure.startswith(b'\x89PNG') and len(figure) > 10_000
    assert str(tmp_path / 'demo' / 'accuracy.png') in done.stdout
    # Four origins that add up to the whole state dict.
    origins = re.search(
        r'(\d+) tensors: (\d+) from files, (\d+) put in by code, '
        r'(\d+) from rules, (\d+) as built',
        done.stdout,
    )
    total, *parts = map(int, origins.groups())
    assert (total, parts) == (116, [92, 0, 24, 0])
    report = re.search(r'(\S+init_report\.json)', done.stdout)[1]
    assert len(json.loads(open(report).read())['tensors']) == total


def test_the_command_says_its_version_and_how_to_use_it(tmp_path, command):
    assert run('--version').stdout.split() == [
        'mmpartinit',
        mmpartinit.__version__,
    ]
    assert 'demo' in command('--help', cwd=tmp_path).stdout
    for seeds, said in {
        '0': '0 is less than 1',
        'many': "invalid count value: 'many'",
    }.items():
        wrong = command('demo', '--seeds', seeds, cwd=tmp_path)
        assert wrong.returncode == 2
        assert said in wrong.stderr


@pytest.mark.parametrize('package', ['mmengine', 'sklearn'])
def test_a_missing_package_is_one_clear_sentence(package, tmp_path):
    blocker = f"import sys; sys.modules['{package}'] = None; "
    program = (
        'from mmpartinit.command.cli import main; sys.exit(main(["demo"]))'
    )
    done = subprocess.run(
        [sys.executable, '-c', blocker + program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    extra = {'mmengine': 'openmmlab', 'sklearn': 'demo'}[package]
    assert f"pip install 'mmpartinit[{extra}]'" in last
