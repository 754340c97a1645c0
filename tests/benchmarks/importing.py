"""What importing the package costs, and what the command does without it."""

import subprocess
import sys
import tempfile
from pathlib import Path

import torch.nn as nn
from timing import in_turns

from mmpartinit import init_modules

SCRIPT = Path(sys.executable).with_name('mmpartinit')
ALONE = 'a process of Python that imports argparse'


def rows():
    """Against what every run imports anyway, and every command."""

    def run(*command, status=0):
        done = subprocess.run(command, capture_output=True)
        assert done.returncode == status, done.stderr

    yield in_turns(
        'import',
        'import mmpartinit',
        'import mmengine.runner',
        1.1,
        lambda: run(sys.executable, '-c', 'import mmpartinit'),
        lambda: run(sys.executable, '-c', 'import mmengine.runner'),
        turns=9,
    )
    with tempfile.TemporaryDirectory() as folder:
        saved = str(Path(folder) / 'init_report.json')
        rules = [dict(path='**', init_cfg=dict(type='Normal'))]
        init_modules(nn.Linear(2, 2), rules).save(saved)
        # The goals of 0.1, 0.3 and 0.5 s are for a machine on which Python
        # and argparse take 0.03 s.
        for name, words, status, limit in (
            ('help', ['--help'], 0, 3.3),
            ('show', ['show', saved], 0, 10),
            ('no config', ['plan', 'nofile.py'], 2, 17),
        ):
            shown = ' '.join(words).replace(saved, 'init_report.json')
            yield in_turns(
                name,
                f'`mmpartinit {shown}`',
                ALONE,
                limit,
                lambda words=words, s=status: run(SCRIPT, *words, status=s),
                lambda: run(sys.executable, '-c', 'import argparse'),
                turns=9,
            )
