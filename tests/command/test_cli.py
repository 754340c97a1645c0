"""The command itself: without words, into a closed pipe, without weights."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from as_process import TOY, run, said
from toy import SE_ZERO, ToyModel

from mmpartinit import __version__, init_modules

ROOT = Path(__file__).parents[2]
HOOKS = [dict(type='CustomModuleInitHook', modules=[SE_ZERO])]


def write(folder):
    (folder / 'config.py').write_text(f'{TOY}custom_hooks = {HOOKS}\n')


def test_without_words_it_prints_its_help(command, tmp_path):
    done = command(cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith('usage: mmpartinit')
    assert 'mmpartinit plan configs/my_config.py' in done.stdout
    assert command('--help', cwd=tmp_path).stdout == done.stdout


LIGHT = """\
import sys
import mmpartinit_cli
try:
    status = mmpartinit_cli.main()
finally:
    assert not {'torch', 'mmengine'} & set(sys.modules)
sys.exit(status)
"""


def script(*words, cwd, code=LIGHT, path=()):
    """Run the console script."""
    return subprocess.run(
        [sys.executable, '-c', code, *words],
        cwd=cwd,
        env={'PYTHONPATH': ':'.join([*path, str(ROOT)])},
        capture_output=True,
        text=True,
    )


def test_words_are_read_without_torch_and_mmengine(tmp_path):
    assert script(cwd=tmp_path).stdout.startswith('usage: mmpartinit')
    assert script('--help', cwd=tmp_path).returncode == 0
    assert __version__ in script('--version', cwd=tmp_path).stdout
    done = script('plna', cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, '')
    assert "invalid choice: 'plna'" in done.stderr
    done = script('plan', 'none.py', cwd=tmp_path)
    assert "there is no config file 'none.py'" in said(done)


def test_it_can_be_called_before_and_after_the_package_is_imported(tmp_path):
    write(tmp_path)
    code = """
import mmpartinit_cli
words = ['plan', 'config.py', '--no-weights']
print(mmpartinit_cli.main([]))
import mmpartinit
hook = mmpartinit.CustomModuleInitHook
print(mmpartinit_cli.main(words), mmpartinit.CustomModuleInitHook is hook)
"""
    done = script(cwd=tmp_path, code=code, path=[str(ROOT / 'tests')])
    assert done.returncode == 0, done.stderr
    assert 'to a look at the outcome' in done.stdout
    assert done.stdout.endswith('0 True\n')


def test_a_report_is_shown_without_torch_and_mmengine(tmp_path):
    report = init_modules(ToyModel(), [SE_ZERO])
    report.save(str(tmp_path / 'report.json'))
    done = script('show', 'report.json', cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, '')
    assert 'backbone.**.se' in done.stdout


def test_without_mmengine_one_sentence_says_what_to_install(tmp_path):
    write(tmp_path)
    lacking = tmp_path / 'lacking' / 'mmengine.py'
    lacking.parent.mkdir()
    text = "No module named 'mmengine'"
    lacking.write_text(f'raise ModuleNotFoundError({text!r}, name="mmengine")')
    done = script(
        *['plan', 'config.py'],
        cwd=tmp_path,
        code='import sys, mmpartinit_cli; sys.exit(mmpartinit_cli.main())',
        path=[str(lacking.parent)],
    )
    assert "pip install 'mmpartinit[openmmlab]'" in said(done)


def test_the_script_does_what_the_module_does(tmp_path):
    write(tmp_path)
    done = script(
        *['plan', 'config.py', '--no-weights'],
        cwd=tmp_path,
        code='import sys, mmpartinit_cli; sys.exit(mmpartinit_cli.main())',
        path=[str(ROOT / 'tests')],
    )
    assert done.returncode == 0, done.stderr
    other = run('plan', 'config.py', '--no-weights', cwd=tmp_path)
    assert done.stdout == other.stdout


@pytest.mark.parametrize('columns', [72, 80, 160])
def test_the_table_fits_the_terminal(columns, command, tmp_path, monkeypatch):
    monkeypatch.setenv('COLUMNS', str(columns))
    paths = [
        f'backbone.layer[12].{{0,1}}.{{{"se," * 9}se}}.fc{n}' for n in '12'
    ]
    rules = [dict(SE_ZERO, path=path) for path in paths]
    hooks = [dict(type='CustomModuleInitHook', modules=rules)]
    (tmp_path / 'config.py').write_text(f'{TOY}custom_hooks = {hooks}\n')
    words = ['plan', 'config.py', '--no-weights', '--json', 'plan.json']
    out = command(*words, cwd=tmp_path).stdout
    assert max(map(len, out.splitlines())) <= columns
    assert out == command('show', 'plan.json', cwd=tmp_path).stdout
    # Each number stands in a column of its own.
    assert len(re.findall(r' 4 +8 +0$', out, re.MULTILINE)) == 2
    assert (paths[0] in out) == (columns == 160)


def test_a_closed_pipe_is_no_traceback(tmp_path):
    write(tmp_path)
    path = f'{ROOT}:{ROOT / "tests"}'
    words = f'{sys.executable} -m mmpartinit plan config.py --no-weights'
    done = subprocess.run(
        ['bash', '-c', f'({words}; echo $? >status) | true'],
        cwd=tmp_path,
        env={'PYTHONPATH': path, 'PATH': '/usr/bin:/bin'},
        capture_output=True,
        text=True,
    )
    assert 'Traceback' not in done.stderr
    assert 'BrokenPipe' not in done.stderr
    # As of a program that the closed pipe ends.
    assert (tmp_path / 'status').read_text() == '141\n'


def test_suggest_without_weights_reads_none(command, tmp_path):
    write(tmp_path)
    done = command('suggest', 'config.py', cwd=tmp_path)
    assert done.returncode == 2
    assert 'weights.pth can not be found' in done.stderr
    done = command('suggest', 'config.py', '--no-weights', cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith('# Nothing to suggest: nothing was loaded')
    assert 'Leave --no-weights out' in done.stdout.replace('\n# ', ' ')
