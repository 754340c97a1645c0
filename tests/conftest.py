import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from stacks import READS_ITS_OWN_CHECKPOINTS

from mmpartinit.command.cli import main

if not READS_ITS_OWN_CHECKPOINTS:
    # Nobody resumes on that pair without it. It is torch's own switch for
    # trusted files, and the tests make theirs.
    os.environ.setdefault('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
# Processes of pytest-xdist have one, and programs write as wide as it says.
os.environ.pop('COLUMNS', None)
torch.set_num_threads(1)
# Tests make the data of `configs.digits_detection`.
sys.path.insert(0, str(Path(__file__).parents[1]))
settings.register_profile(
    'default',
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    'nightly', settings.get_profile('default'), max_examples=2500
)
settings.register_profile(
    'long', settings.get_profile('default'), max_examples=20000
)
settings.load_profile(os.environ.get('MMPARTINIT_HYPOTHESIS', 'default'))


@pytest.fixture
def work_dir(tmp_path):
    """A folder for a Runner; its name is the name of the experiment, of which
    MMEngine keeps one logger each."""
    return tmp_path / f'run_{uuid.uuid4().hex}'


@pytest.fixture(autouse=True)
def no_scope_left():
    """Runners leave their default scope behind."""
    yield
    DefaultScope._instance_dict.clear()


@pytest.fixture
def command(monkeypatch, capsys):
    """``mmpartinit`` in this process, several seconds faster than one of its
    own: `as_process.run`, but for the environment."""

    def run(*words, cwd):
        monkeypatch.chdir(cwd)
        capsys.readouterr()
        try:
            status = main(list(map(str, words)))
        except SystemExit as stopped:  # by argparse
            status = stopped.code
        finally:
            # It would write to what stood for the standard output.
            MMLogger._instance_dict.pop('mmpartinit', None)
        told = capsys.readouterr()
        return subprocess.CompletedProcess(words, status, told.out, told.err)

    return run


@pytest.fixture(scope='session')
def canvases(tmp_path_factory):
    """A few canvases of real digits with boxes, in COCO's format."""
    from configs.digits_detection.make_data import make_data

    root = tmp_path_factory.mktemp('canvases')
    make_data(str(root), canvases=dict(train=8, few=4, test=4))
    return root
