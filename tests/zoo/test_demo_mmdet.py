"""The comparison on mmdet, as a process and with a few iterations."""

import json
import os
import os.path as osp
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

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


def test_the_configs_of_recipes_train_one_after_the_other(tmp_path):
    names = ['pretrain', 'finetune_se_frozen', 'finetune_atss']
    seven = ['pretrain_seven', 'finetune_ten']
    for order in (names, seven):
        command = [
            sys.executable,
            '-m',
            'configs.digits_detection.train',
            *order,
            '--quick',
        ]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=dict(os.environ, PYTHONPATH=str(ROOT)),
        )
        assert done.returncode == 0, done.stderr
        for name in order[order is names :]:  # `pretrain` measures no mAP
            assert f'{name}: mAP (%)' in done.stdout
    runs = tmp_path / 'work_dirs' / 'digits_detection'

    def weights(name):
        file = runs / f'{name}_seed0' / 'weights.pth'
        return torch.load(file, weights_only=False)

    def origins(name):
        (file,) = (runs / f'{name}_seed0').glob('*/init_report.json')
        tensors = json.loads(file.read_text())['tensors']
        return {t['name']: t['origin'] for t in tensors}

    before, after = weights('pretrain'), weights('finetune_se_frozen')
    assert all(after[key].equal(value) for key, value in before.items())
    gates = [key for key in after if '.se.fc2.' in key]
    assert len(gates) == 26
    assert all(after[key].unique().numel() > 1 for key in gates)

    found = origins('finetune_atss')
    by_rule = {key for key, origin in found.items() if origin == 'rule'}
    assert {
        f'bbox_head.atss_{kind}.{key}'
        for kind in ('cls', 'centerness')
        for key in ('weight', 'bias')
    } == by_rule
    assert 'bbox_head.atss_reg.weight' in found

    key = 'bbox_head.conv_cls.weight'
    assert weights('pretrain_seven')[key].shape[0] == 7
    assert weights('finetune_ten')[key].shape[0] == 10
    assert origins('finetune_ten')[key] == 'rule'
