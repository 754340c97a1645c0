"""A part of ``make sweep``: rules on models that mmdet ships configs for."""

import pytest
from sweep import config_files, sweep
from sweep_starts import sweep_starts

pytestmark = pytest.mark.needs_mmdet


def test_rules_fit_a_sample_of_mmdets_models():
    results = list(sweep(config_files(sample=40)))
    assert len(results) == 40
    assert [str(r) for r in results if r.status == 'failed'] == []
    applied = [r for r in results if r.status == 'applied']
    # The others need packages that are not among those of the tests.
    assert len(applied) >= 30
    assert all(0 < r.written <= r.planned for r in applied)


def test_what_is_planned_is_what_a_start_does():
    results = sweep_starts(sample=6)
    assert [str(r) for r in results if r.status == 'differ'] == []
    agree = [r for r in results if r.status == 'agree']
    assert len(agree) >= 4
    assert all(16 <= r.written < r.tensors for r in agree)
