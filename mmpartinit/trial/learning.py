"""The first steps of a training, from a start."""

from contextlib import contextmanager
from typing import Dict, Iterator, List, Sequence, Set

import torch
import torch.nn as nn
from torch import Tensor

from .places import Place
from .still import gradients_kept
from .trial import Outcome, Trial

# Sizes of a first step: what changes with the one is a tenth of what changes
# with the other, but for a layer before a norm that starts at zero.
_SMALL, _LARGE = 1e-4, 1e-3
_TENTH = (0.05, 0.2)
_STEPS = 4
# Starts at which a parameter may learn that does not at the one to be tried.
_DRAWS = 2
# Of the largest gradient in a block, what is no rounding error (a bias before
# a norm has nothing else) where no parameter starts at zero; and what is
# anything, where some do.
_NOISE, _NOTHING = 1e-5, 1e-9

Parameters = Dict[str, nn.Parameter]
Values = Dict[str, Tensor]


def learn(trial: Trial, places: Sequence[Place], outcome: Outcome) -> None:
    """Add to an outcome whether places stay harmless in the first steps of a
    training, and which of their parameters learn.

    The steps are those of an optimizer that scales gradients, such as Adam,
    whose first one moves each element by the learning rate.
    """
    parameters = trial.parameters(places)
    steps = _Steps(trial, places, parameters)
    with _alone(trial.network.model, parameters), torch.enable_grad():
        with _values_kept(parameters) as start:
            movable: Set[str] = set()
            for seed in range(_DRAWS):
                _draw(parameters, seed)
                movable |= _above(_NOISE, steps.gradients())
            _set(parameters, start)
            first = steps.gradients()
            outputs, learning = [steps.outputs], _above(_NOTHING, first)
            movable |= _above(_NOISE, first)
            for size in (_SMALL, _LARGE):
                _set(parameters, start)
                _step(parameters, first, size)
                gradients = steps.gradients()
                outputs.append(steps.outputs)
            for _ in range(_STEPS - 1):
                learning |= _above(_NOTHING, gradients)
                _step(parameters, gradients, _LARGE)
                gradients = steps.gradients()
            learning |= _above(_NOTHING, gradients)
    outcome.stays = all(map(_is_tenth, *outputs))
    outcome.learning = sorted(learning & movable)
    outcome.stuck = sorted(movable - learning)


class _Steps:
    """Passes forward and back through places of a network."""

    def __init__(
        self, trial: Trial, places: Sequence[Place], parameters: Parameters
    ) -> None:
        self.trial, self.places, self.parameters = trial, places, parameters
        self.outputs: List[Tensor] = []

    def gradients(self) -> Values:
        """Gradients of a random sum of what is computed above the places."""
        self.outputs = []
        total = torch.zeros(())
        generator = torch.Generator().manual_seed(0)
        train = self.trial.modes[-1]
        for got, _ in self.trial.outputs(self.places, train):
            weights = torch.randn(got.shape, generator=generator).to(got)
            if got.requires_grad:
                total = total + (got * weights).sum().cpu().float()
            self.outputs.append(got.detach())
        wanted = {n: p for n, p in self.parameters.items() if p.requires_grad}
        if not (total.requires_grad and wanted):
            return {}
        found = torch.autograd.grad(
            total, list(wanted.values()), allow_unused=True
        )
        return {n: g for n, g in zip(wanted, found) if g is not None}


def _above(share: float, gradients: Values) -> Set[str]:
    """Names of what has gradients above a share of the largest."""
    sizes = {n: g.abs().max().item() for n, g in gradients.items()}
    floor = share * max(sizes.values(), default=0.0)
    return {name for name, size in sizes.items() if size > floor}


def _step(parameters: Parameters, gradients: Values, size: float) -> None:
    for name, gradient in gradients.items():
        parameters[name].data.add_(gradient.sign(), alpha=-size)


def _draw(parameters: Parameters, seed: int) -> None:
    """Have no parameter at a value where others get no gradients."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in parameters.items():
        noise = torch.randn(parameter.shape, generator=generator)
        inputs = parameter[:1].numel() if parameter.dim() > 1 else 100
        is_norm = parameter.dim() == 1 and name.endswith('weight')
        parameter.data.copy_(noise * inputs**-0.5 + is_norm)


def _set(parameters: Parameters, values: Values) -> None:
    for name, value in values.items():
        parameters[name].data.copy_(value)


@contextmanager
def _values_kept(parameters: Parameters) -> Iterator[Values]:
    values = {name: p.detach().clone() for name, p in parameters.items()}
    try:
        yield values
    finally:
        _set(parameters, values)


@contextmanager
def _alone(model: nn.Module, parameters: Parameters) -> Iterator[None]:
    """Have nothing else of a model need gradients."""
    ours = {id(parameter) for parameter in parameters.values()}
    with gradients_kept(model.parameters()):
        for parameter in model.parameters():
            if id(parameter) not in ours:
                parameter.requires_grad_(False)
        yield


def _is_tenth(start: Tensor, small: Tensor, large: Tensor) -> bool:
    """Whether a small step changes a tenth of what a large one does."""
    change = (large - start).double().norm().item()
    if change <= 1e-6 * start.double().norm().item():
        return True  # within what rounding does
    ratio = (small - start).double().norm().item() / change
    return _TENTH[0] <= ratio <= _TENTH[1]
