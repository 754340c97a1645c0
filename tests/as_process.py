"""The command as a process, and configs for it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent

TOY = """\
custom_imports = dict(imports=['toy'], allow_failed_imports=False)
model = dict(type='ToyModel')
load_from = 'weights.pth'
"""


def run(*words: Any, cwd: Any, **env: str) -> subprocess.CompletedProcess:
    """Run ``python -m mmpartinit`` in a folder."""
    path = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    return subprocess.run(
        [sys.executable, '-m', 'mmpartinit', *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, 'PYTHONPATH': path, **env},
    )


def said(done: subprocess.CompletedProcess) -> str:
    """The one sentence of a command that failed."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert not done.stdout
    assert 'Traceback' not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert sum(line.startswith('mmpartinit') for line in lines) == 1
    assert lines[-1].startswith('mmpartinit')
    return lines[-1]
