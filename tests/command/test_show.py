"""`mmpartinit show` on saved reports, once as a process."""

import json
import re

import numpy as np
import pytest
from as_process import run, said
from PIL import Image
from toy import SE_ZERO, build_runner, hooks, pretrained, report_of

from mmpartinit import InitReport
from mmpartinit.report import (
    CheckpointRecord,
    Finding,
    RuleRecord,
    TensorRecord,
)

RECORD = TensorRecord('weight', [8, 8], 'float32', 'file', None, 0, 1)


def test_show_gives_the_table_and_the_figure(work_dir, tmp_path):
    pretrained(tmp_path / 'weights.pth')
    trained = build_runner(
        work_dir,
        custom_hooks=hooks(SE_ZERO),
        load_from=str(tmp_path / 'weights.pth'),
    )
    trained.train()
    path = f'{trained.log_dir}/init_report.json'
    figure = f'{trained.log_dir}/shown.png'
    done = run('show', path, '--figure', figure, cwd=trained.log_dir)
    assert done.returncode == 0, done.stderr
    report = InitReport.load(path)
    assert report == report_of(trained)
    assert report.summary() in done.stdout
    assert 'backbone.**.se.fc2' in done.stdout
    assert f'The figure: {figure}' in done.stdout
    with Image.open(figure) as image, Image.open(
        f'{trained.log_dir}/init_report.png'
    ) as first:
        assert (np.asarray(image) == np.asarray(first)).all()


def test_several_runs_are_shown_one_after_the_other(tmp_path, command):
    for name in ('a.json', 'b.json'):
        InitReport(0, [RECORD], []).save(str(tmp_path / name))
    done = command('show', 'a.json', 'b.json', cwd=tmp_path)
    assert re.findall(r'(?m)^[ab]\.json:$', done.stdout) == [
        'a.json:',
        'b.json:',
    ]
    assert done.stdout.count('1 tensors: 1 from files') == 2
    words = ['show', 'a.json', 'b.json', '--figure', 'a.png']
    assert 'draws one report' in said(command(*words, cwd=tmp_path))


@pytest.mark.parametrize(
    'text, sentence',
    [
        (None, 'No such file'),
        ('{', 'cannot be read'),
        ('[]', '`version` should be 1 or 2, and is none'),
        ('{"version": 3}', '`version` should be 1 or 2, and is 3'),
        ('{"version": 1, "seed": 0}', "no whole report: KeyError: 'tensors'"),
    ],
)
def test_what_is_no_report(text, sentence, tmp_path, command):
    if text is not None:
        (tmp_path / 'report.json').write_text(text)
    assert sentence in said(command('show', 'report.json', cwd=tmp_path))


@pytest.mark.parametrize(
    'where, key, value, words',
    [
        ('tensors', 'origin', 'elsewhere', "has origin 'elsewhere'"),
        ('tensors', 'file', ['a'], "the file of 'weight' is ['a'], no string"),
        ('checkpoints', 'path', 5, 'the path of a checkpoint is 5, no string'),
        ('checkpoints', 'file', {}, 'the file of a checkpoint is {}, no str'),
        ('checkpoints', 'unused', [1], 'a checkpoint has names that are no'),
        ('checkpoints', 'shapes', [['a', [1]]], 'not enough values to unpack'),
        ('findings', 'level', 'fatal', "has level 'fatal'"),
        ('findings', 'names', ['a', None], "finding 'kept' has names that"),
        ('rules', 'matched', [1], 'rule 0 has names that are no strings'),
    ],
)
def test_what_a_report_cannot_hold(
    where, key, value, words, tmp_path, command
):
    rule = RuleRecord(0, ['a'], ['Normal()'])
    finding = Finding('note', 'kept', 'It is kept.', ['a'])
    loaded = CheckpointRecord('', 'a.pth', 1, 1)
    report = InitReport(0, [RECORD], [rule], [finding], '', [loaded])
    data = report.to_dict()
    data[where][0][key] = value
    (tmp_path / 'report.json').write_text(json.dumps(data))
    text = said(command('show', 'report.json', cwd=tmp_path))
    assert 'no whole report' in text and words in text


def test_a_figure_that_cannot_be_written(tmp_path, command):
    InitReport(0, [RECORD], []).save(str(tmp_path / 'report.json'))
    for name in ('figure.xyz', 'no/such/folder.png'):
        said(command('show', 'report.json', '--figure', name, cwd=tmp_path))


def test_help_has_examples_for_each_command(tmp_path, command):
    for name in ('plan', 'suggest', 'show'):
        done = command(name, '--help', cwd=tmp_path)
        assert done.returncode == 0
        assert re.search(rf'examples:\n  mmpartinit {name} ', done.stdout)
    assert '  mmpartinit suggest' in command('--help', cwd=tmp_path).stdout
