"""A pass through a model that leaves no trace, and comes out the same again.

A pass changes running statistics and draws random numbers, and to switch to
train mode sets flags that nobody can set back by switching again: backbones
keep frozen stages and norms in eval mode, and freeze parameters, as they do.
"""

from contextlib import ExitStack, contextmanager
from typing import Any, Iterable, Iterator, List, Tuple

import torch.nn as nn

from ..seeding import cuda_devices, random_state_kept, seed_everything

_MOST_BOXES = 10


@contextmanager
def still(model: nn.Module, train: bool, seed: int) -> Iterator[None]:
    """Have a model in a mode, as a Runner puts it there, without what is drawn
    while it trains; and have it as it was afterwards.

    Nothing is dropped in train mode, as far as modules or their attributes say
    what is. All that draws in another way draws the same in each pass. Of
    mmdet's detectors, the second stage sees a few proposals only: a thousand
    for each image would take minutes, and tell no more.

    Args:
        model (nn.Module): The model.
        train (bool): Whether it is in train mode.
        seed (int): Seed of what is drawn.
    """
    devices = cuda_devices(model.parameters())
    with ExitStack() as stack:
        stack.enter_context(random_state_kept(devices))
        stack.enter_context(_buffers_kept(model))
        stack.enter_context(gradients_kept(model.parameters()))
        stack.enter_context(_modes_kept(model))
        model.train(train)
        stack.enter_context(_nothing_dropped(model))
        stack.enter_context(_few_boxes(model))
        seed_everything(seed, devices)
        yield


@contextmanager
def gradients_kept(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Have those parameters need gradients afterwards that do now."""
    flags = [(parameter, parameter.requires_grad) for parameter in parameters]
    try:
        yield
    finally:
        for parameter, flag in flags:
            if parameter.requires_grad is not flag:
                parameter.requires_grad_(flag)


@contextmanager
def _modes_kept(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def _buffers_kept(model: nn.Module) -> Iterator[None]:
    kept = [
        (module._buffers, key, buffer, buffer.detach().clone())
        for module in model.modules()
        for key, buffer in module._buffers.items()
        if buffer is not None
    ]
    try:
        yield
    finally:
        for buffers, key, buffer, value in kept:
            buffers[key] = buffer
            # Past the version counter: a backward pass that comes later needs
            # batch norm's statistics, but not the running ones.
            buffer.data.copy_(value)


@contextmanager
def _nothing_dropped(model: nn.Module) -> Iterator[None]:
    changed: List[Tuple[nn.Module, str, Any]] = []
    try:
        for module in model.modules():
            name = type(module).__name__
            if 'Drop' in name or name == 'StochasticDepth':
                module.training = False  # its own, not that of what is in it
            for key, value in list(vars(module).items()):
                # Such as `MultiheadAttention.dropout`, given to a function.
                if 'drop' in key and isinstance(value, float) and value:
                    changed.append((module, key, value))
                    setattr(module, key, 0.0)
        yield
    finally:
        for module, key, value in changed:
            setattr(module, key, value)


@contextmanager
def _few_boxes(model: nn.Module) -> Iterator[None]:
    found = [vars(module).get('test_cfg') for module in model.modules()]
    limits = [
        (cfg, cfg['max_per_img'])
        for cfg in found
        if isinstance(cfg, dict) and isinstance(cfg.get('max_per_img'), int)
    ]
    try:
        for cfg, most in limits:
            cfg['max_per_img'] = min(most, _MOST_BOXES)
        yield
    finally:
        for cfg, most in limits:
            cfg['max_per_img'] = most
