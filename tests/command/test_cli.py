"""The command itself: without words, into a closed pipe, without weights."""

import subprocess
import sys
from pathlib import Path

from as_process import TOY
from toy import SE_ZERO

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
