"""A part of ``make sweep``: rules on models that mmdet ships configs for."""

import pytest
from sweep import config_files, sweep

pytestmark = pytest.mark.needs_mmdet


def test_rules_fit_a_sample_of_mmdets_models():
    results = list(sweep(config_files(sample=40)))
    assert len(results) == 40
    assert [str(r) for r in results if r.status == 'failed'] == []
    applied = [r for r in results if r.status == 'applied']
    # The others need packages that are not among those of the tests.
    assert len(applied) >= 30
    assert all(0 < r.written <= r.planned for r in applied)
