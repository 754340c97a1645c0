"""A model that can be run: on which input, and through which of its methods.

The data preprocessor is gone around: what is random is as good normalised, and
a model that takes another number of channels needs no other preprocessor.
"""

import copy
from itertools import product
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Tuple,
)

import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor

from ..errors import some, told
from ..seeding import random_state_kept, seed_everything
from .inputs import input_shapes, make_input, make_samples
from .still import gradients_kept, still

_MOST_REASONS = 4
_MOST_LETTERS = 160


class NotRun(Exception):  # noqa: N818 - it names an outcome
    """Why a network could not be run, in a sentence."""


class Way(NamedTuple):
    """A way to run a model.

    Attributes:
        name (str): What is called.
        call (Callable): Calls it, with a model and the data for it.
    """

    name: str
    call: Callable[[Any, Dict[str, Any]], Any]


def _in_tensor_mode(model: Any, data: Dict[str, Any]) -> Any:
    # By place: what is called `data_samples` here may have another name.
    return model(*data.values(), mode='tensor')


_TENSOR = Way("mode='tensor'", _in_tensor_mode)
_TENSOR_BY_KEYS = Way(_TENSOR.name, lambda m, data: m(**data, mode='tensor'))
_FEATURES = Way('extract_feat', lambda m, data: m.extract_feat(data['inputs']))
_FORWARD = Way('forward', lambda m, data: m(data['inputs']))
WayOn = Tuple[Way, Dict[str, Any]]  # with the data for it


class Network:
    """A model with an input on which it runs.

    Args:
        model (nn.Module): The model.
        cfg (Config): Its config, which may name sizes of images.
        seed (int): Seed of the input, and of what a pass draws. Defaults to 0.
        data (dict | Sequence, optional): A batch, as the data preprocessor
            gives it to the model, in place of a made-up input. Defaults to
            None.

    Raises:
        NotRun: If it runs on none of the inputs that were tried.
    """

    def __init__(
        self, model: nn.Module, cfg: Config, seed: int = 0, data: Any = None
    ) -> None:
        self.model, self.seed = model, seed
        if data is None:
            self._take(_made_up(model, cfg, seed))
        else:
            self._take(_given(model, data), ' on the data')

    def of(self, model: nn.Module) -> 'Network':
        """Another model, run in the same way on the same input.

        Raises:
            NotRun: If it does not run so.
        """
        other = copy.copy(self)
        other.model = model
        other._take([(self._way, self._data)])
        return other

    @property
    def way(self) -> str:
        """What is called, in words for the user."""
        return self._way.name

    @property
    def shape(self) -> Tuple[int, ...]:
        """That of the input, or of the first of several."""
        inputs = self._data.get('inputs')
        tensors = [inputs] if isinstance(inputs, Tensor) else floating(inputs)
        return next((tuple(tensor.shape) for tensor in tensors), ())

    def run(self, train: bool = False, traced: bool = False) -> Any:
        """Run the model on its input, with gradients or without as it is set
        outside. The model is as it was afterwards, and the random numbers too;
        each pass of a mode gives the same, while the weights are.

        Args:
            train (bool): Whether to run it in train mode, but with nothing
                dropped. Defaults to False: in eval mode.
            traced (bool): Whether the input needs gradients, so that all that
                is computed from it does. Defaults to False.

        Returns:
            Any: What the model returns.
        """
        # A pass may write to what it is given.
        data = copy.deepcopy(self._data)
        made = data['inputs']
        if traced and isinstance(made, Tensor) and made.is_floating_point():
            # Not a leaf, which nothing could write to.
            data['inputs'] = made.requires_grad_(True).clone()
        with still(self.model, train, self.seed):
            return self._way.call(self.model, data)

    def shaken(self, change: float) -> 'Network':
        """The same network on another input, changed at random by so much of
        its norm.
        """
        other = copy.copy(self)
        other._data = copy.deepcopy(self._data)
        with random_state_kept([]):
            seed_everything(self.seed, [])
            for tensor in floating(other._data['inputs']):
                size = tensor.square().mean().sqrt()
                tensor.add_(torch.randn_like(tensor) * (change * size))
        return other

    def _take(self, ways: Iterable[WayOn], on: str = '') -> None:
        """Take the first way that works, or say why none does."""
        reasons = []
        for self._way, self._data in ways:
            text = self._problem()
            if not text:
                return
            reasons.append(text)
        kind = type(self.model).__name__
        reasons = reasons or ['it has no forward()']
        raise NotRun(
            f'{kind} cannot be run{on}: {some(reasons, _MOST_REASONS)}'
        )

    def _problem(self) -> str:
        """Why a pass does not work; '' where it does."""
        try:
            self._check()
        except Exception as error:  # anybody's code
            return f'{self.way} with {self.shape}: {_reason(error)}'
        return ''

    def _check(self) -> None:
        """See that a pass gives something that depends on the weights."""
        parameters = list(self.model.parameters())
        with gradients_kept(parameters), torch.enable_grad():
            for parameter in parameters:
                if parameter.is_floating_point():
                    parameter.requires_grad_(True)
            found = list(floating(self.run()))
        if not any(tensor.requires_grad for tensor in found):
            raise NotRun('nothing that it returns depends on its weights')


def floating(value: Any) -> Iterator[Tensor]:
    """The tensors of floating-point numbers in what a model or a module takes
    or returns, in order.
    """
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, (dict, BaseDataElement)):
        for inner in value.values():
            yield from floating(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from floating(inner)


def _ways_of(model: nn.Module) -> List[Way]:
    ways = [_TENSOR] if isinstance(model, BaseModel) else []
    if callable(getattr(model, 'extract_feat', None)):
        ways.append(_FEATURES)
    has_forward = type(model).forward is not nn.Module.forward
    return [*ways, _FORWARD] if has_forward else ways


def _made_up(model: nn.Module, cfg: Config, seed: int) -> Iterator[WayOn]:
    """Ways to run a model on made-up inputs, in the order to try them in."""
    ways = _ways_of(model)
    for shapes in input_shapes(model, cfg):
        for way, shape in product(ways, shapes):
            made = make_input(model, shape, seed)
            samples = make_samples(model, shape)
            yield way, dict(inputs=made, data_samples=samples)


def _given(model: nn.Module, data: Any) -> Iterator[WayOn]:
    """Ways to run a model on a batch of data."""
    has_keys = isinstance(data, dict)
    names = ['inputs', *map(str, range(1, len(data)))]
    data = dict(data) if has_keys else dict(zip(names, data))
    for way in _ways_of(model):
        by_keys = has_keys and way is _TENSOR
        yield _TENSOR_BY_KEYS if by_keys else way, data


def _reason(error: Exception) -> str:
    text = str(error) if isinstance(error, NotRun) else told(error)
    lines: Tuple[str, ...] = (*text.splitlines(), '')
    return lines[0][:_MOST_LETTERS]
