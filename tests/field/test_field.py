"""A part of ``make field``, and that it sees what does not hold."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import trial
from mmengine.config import Config
from mmengine.registry import DefaultScope
from toy import runner_cfg

from mmpartinit.model.deciding import _Judge
from mmpartinit.plan import InitPlan
from mmpartinit.report.report import InitReport
from mmpartinit.rules.matching import Match

FOLDER = Path(__file__).parent


@pytest.fixture
def tried(monkeypatch, tmp_path):
    """Tries a small model in place of a package's; gives the result."""
    scopes = dict(DefaultScope._instance_dict)
    model = dict(type='ToyModel', new=False)
    cfg = Config(runner_cfg('', model=model, custom_hooks=[]))
    monkeypatch.setattr(trial, 'read', lambda package, config: cfg)
    result = trial.Result('mmdet', 'toy')
    yield lambda: trial.try_config(result, tmp_path, 0)
    DefaultScope._instance_dict = scopes
    logging.disable(logging.NOTSET)  # which a trial leaves silent


def test_all_holds(tried):
    result = tried()
    assert (result.status, result.reason) == ('ran', ''), str(result)
    assert (result.check, result.start) == ('', '')
    assert result.tensors > result.from_file > 10
    assert result.wrote > 5 and result.rules > 2


def touch_what_is_loaded(plan, log):
    name = next(t.name for t in log.tensors if t.origin == 'file')
    plan.whole.tree.index[name].value.data.mul_(2)


def draw(plan, log):
    torch.rand(1)


def lose_a_rule(plan, log):
    log.rules[0].wrote.pop()


def write_other_values(plan, log):
    name = log.rules[0].wrote[0]
    plan.whole.tree.index[name].value.data += torch.rand(1)


@pytest.mark.parametrize(
    'harm, words',
    [
        (touch_what_is_loaded, 'loaded and changed'),
        (draw, 'random state untouched'),
        (lose_a_rule, 'suggested and not written'),
        (write_other_values, 'other values by the same seed'),
    ],
)
def test_harm_done_when_a_plan_is_applied_is_seen(
    tried, monkeypatch, harm, words
):
    apply = InitPlan.apply

    def harmful(plan, *arguments):
        report = apply(plan, *arguments)
        if report.rules:
            harm(plan, report)
        return report

    monkeypatch.setattr(InitPlan, 'apply', harmful)
    expect_difference(tried(), words)


def test_a_plan_that_lacks_a_name_is_seen(tried, monkeypatch):
    expected = Match.expected
    monkeypatch.setattr(
        Match,
        'expected',
        lambda match: [set(sorted(n)[1:]) for n in expected(match)],
    )
    expect_difference(tried(), 'planned')


def test_an_origin_that_is_not_so_is_seen(tried, monkeypatch):
    judge = _Judge.judge

    def wrong(self, origins):
        judge(self, origins)
        origins.files.pop(next(iter(origins.files)), None)

    monkeypatch.setattr(_Judge, 'judge', wrong)
    expect_difference(tried(), 'from files: 0 too many [], 1 lack')


def test_text_that_is_lost_is_seen(tried, monkeypatch):
    load = InitReport.load.__func__

    def loses(kind, path):
        report = load(kind, path)
        report.findings = report.findings[1:]
        report.known_by = ''
        return report

    monkeypatch.setattr(InitReport, 'load', classmethod(loses))
    expect_difference(tried(), 'report read')


def expect_difference(result, words):
    assert result.status == 'differs', str(result)
    assert any(words in text for text in result.differences), str(result)


@pytest.mark.needs_mmdet
def test_a_sample_of_mmdets_configs(tmp_path):
    path = tmp_path / 'found.json'
    words = '--package mmdet --sample 4 --paths --json'.split() + [str(path)]
    command = [sys.executable, '-W', 'ignore', str(FOLDER), *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(path.read_text())
    ran = [result for result in found if result['status'] == 'ran']
    assert len(found) == 4 and len(ran) >= 2
    for result in ran:
        assert 0 < result['from_file'] < result['tensors']
