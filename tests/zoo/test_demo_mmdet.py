"""The comparison on mmdet, as a process and with a few iterations."""

import json
import os.path as osp
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs_mmdet
ROOT = Path(__file__).parents[2]


def test_the_comparison_runs_and_the_hook_did_what_it_says(tmp_path):
    work_dir = str(tmp_path / 'run')
    done = subprocess.run(
        [
            sys.executable,
            '-m',
            'configs.digits_detection.compare',
            '--quick',
            '--seeds=1',
            '--work-dir',
            work_dir,
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    for label in ('pretrained', 'with SE, hook', 'with SE, no hook'):
        # A line of progress, and a row in each of the two tables.
        assert len(re.findall(f'^ *{label} ', done.stdout, re.M)) == 2
        assert f'{label}: mAP' in done.stdout
    figure = (tmp_path / 'run' / 'map.png').read_bytes()
    assert figure.startswith(b'\x89PNG') and len(figure) > 10_000
    path = re.search(r'(\S+init_report\.json)', done.stdout)[1]
    assert osp.isfile(path)
    with open(path, encoding='utf-8') as file:
        tensors = json.load(file)['tensors']
    gates = [t for t in tensors if '.se.fc2.' in t['name']]
    assert len(gates) == 13 * 2
    for tensor in gates:
        value = 4.0 if tensor['name'].endswith('bias') else 0.0
        assert (tensor['mean'], tensor['std']) == (value, 0.0)
        assert (tensor['origin'], tensor['rule']) == ('rule', 1)
    others = {t['origin'] for t in tensors if '.se.' not in t['name']}
    assert others == {'file'}
