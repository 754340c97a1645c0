"""A few blocks of the benchmark, pasted as suggested; `tests/benchmarks`
has all of them.
"""

from pathlib import Path

import pytest
from benchmarks.blocks.choosing import choose
from benchmarks.blocks.criteria import problems
from benchmarks.blocks.measure import measure, reference
from benchmarks.blocks.running import pretrained

# A gate, a branch that ends in a norm, and one that its own code starts.
NAMES = [
    'SE @ in branch',
    'x + conv, norm, ReLU @ after',
    'LoRA, bare @ for conv2',
]


@pytest.fixture(scope='module')
def network(tmp_path_factory):
    """The weights of the pretrained network, and its accuracy."""
    weights = pretrained()
    return weights, reference(weights, tmp_path_factory.mktemp('plain'))[0]


@pytest.mark.parametrize('name', NAMES)
def test_a_suggested_start_does_no_harm(name, network, tmp_path):
    weights, accuracy = network
    (case,) = choose(name)
    row = measure(case, weights, Path(tmp_path))
    assert not problems(row, accuracy)
    assert row.outcome in ('found', 'nothing to suggest')
    assert min(row.pasted) > 97
