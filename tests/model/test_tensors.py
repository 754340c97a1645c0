"""Statistics of tensors are those that torch gives in double precision."""

import pytest
import torch

from mmpartinit.model.tensors import statistics, statistics_of


@pytest.mark.parametrize('size', [1, 300, 8193, 200_000])
@pytest.mark.parametrize('shift', [0.0, 50.0])
@pytest.mark.parametrize(
    'dtype', [torch.float32, torch.float64, torch.bfloat16, torch.complex64]
)
def test_mean_and_standard_deviation(size, shift, dtype):
    generator = torch.Generator().manual_seed(size)
    values = (torch.randn(size, generator=generator) + shift).to(dtype)
    values[0] = 7  # far off, as a bias that was set by hand
    exact = (values.abs() if values.is_complex() else values).double()
    std, mean = torch.std_mean(exact, unbiased=False)
    found_mean, found_std, finite = statistics(values.view(-1, 1))
    assert found_mean == pytest.approx(mean.item(), rel=1e-5, abs=1e-6)
    assert found_std == pytest.approx(std.item(), rel=1e-5, abs=1e-6)
    assert finite


@pytest.mark.parametrize('size', [3, 200_000])
def test_constants_have_no_deviation(size):
    mean, std, _ = statistics(torch.full((size,), 0.1))
    assert std == 0
    assert mean == torch.tensor(0.1).item()


@pytest.mark.parametrize('size', [3, 200_000])
@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_what_is_not_finite(size, value):
    values = torch.ones(size)
    values[-1] = value
    mean, std, finite = statistics(values)
    assert not finite
    assert mean is None
    assert std is None


def test_large_values_are_finite():
    values = torch.tensor([3e38, -3e38] * 50_000)
    assert statistics(values) == (0.0, None, True)


def test_many_at_once_have_each_its_own():
    torch.manual_seed(0)
    kinds = [torch.float32, torch.float64, torch.bfloat16, torch.complex64]
    tensors = [
        torch.randn(size).to(kind) + size % 7
        for size in (1, 30, 8192, 8193)
        for kind in kinds * 20
    ]
    tensors += [
        torch.tensor(3.0),
        torch.arange(5),
        torch.empty(0),
        torch.empty(2, device='meta'),
        torch.tensor([1.0, float('nan')]),
        torch.tensor([float('inf'), 1.0]),
        torch.tensor([3e38, -3e38]),
        torch.randn(8, 8).t()[::2],
    ]
    found = statistics_of(tensors)
    for tensor in tensors:
        one = statistics(tensor)
        assert found[id(tensor)].is_finite == one.is_finite
        assert found[id(tensor)].mean == pytest.approx(one.mean, abs=1e-5)
        if one.std is not None:  # a small one can say it of large values
            assert found[id(tensor)].std == pytest.approx(one.std, abs=1e-5)
    assert statistics_of([]) == {}
