"""Ways in which weights get into a model, and the truth about each of them.

A way makes a module from a folder of files; ``Way`` is a model around it. The
truth comes from a witness of its own: what differs between two folders was
decided by a file, what differs between two seeds was drawn. The ways are in
``ways_whole``, ``ways_modules``, ``ways_changed`` and ``ways_without``.
"""

import random
from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

import numpy as np
import torch
import torch.nn as nn
from mmengine.hooks import Hook
from mmengine.model import BaseModel, BaseModule
from mmengine.registry import HOOKS, MODELS
from mmengine.utils import digit_version
from stacks import TORCH

KEPT = ('file', 'code')


class Net(BaseModule):
    """What was trained before: each way takes of it what it likes."""

    def __init__(self, init_cfg=None) -> None:
        super().__init__(init_cfg)
        self.stem = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.table = nn.Embedding(7, 4)
        self.body = nn.Linear(4, 6)
        self.head = nn.Linear(6, 5)


class Made(NamedTuple):
    """One way.

    Attributes:
        build (Callable): The module, from the folder of files.
        start (Callable, optional): What ``init_weights`` does to it.
        after (Callable, optional): What is done once it is initialised.
        says (tuple[str]): What may be said of tensors that a file decided.
        has_file (bool): Whether a file decides anything.
        needs (str): A package that it needs, '' if none.
        since (str): The first PyTorch that can do it.
        built (tuple[str]): Constants beside what was put in that are known
            to be as built.
    """

    build: Callable[[str], nn.Module]
    start: Optional[Callable[[nn.Module, str], Any]] = None
    after: Optional[Callable[[nn.Module, str], Any]] = None
    says: Tuple[str, ...] = KEPT
    has_file: bool = True
    needs: str = ''
    since: str = '0'
    built: Tuple[str, ...] = ()


WAYS: Dict[str, Made] = {}


def way(says: Any = KEPT, **more: Any):
    """A function that gives a module, called in the model's constructor."""

    def add(build: Callable[[str], nn.Module]):
        said = (says,) if isinstance(says, str) else says
        WAYS[build.__name__] = Made(build, says=said, **more)
        return build

    return add


def loader(*times: str, says: Any = KEPT, net: Callable = Net, **more: Any):
    """A function of a module and a folder, called at each of these times:
    ``'constructor'``, ``'init_weights'``, ``'after'``.
    """

    def add(load: Callable[[nn.Module, str], Any]):
        def loaded(path: str) -> nn.Module:
            module = net()
            load(module, path)
            return module

        said = (says,) if isinstance(says, str) else says
        for time in times:
            made = Made(lambda path: net(), says=said, **more)
            kind = dict(constructor='build', init_weights='start').get(time)
            function = loaded if time == 'constructor' else load
            made = made._replace(**{kind or time: function})
            WAYS[f'{load.__name__}@{time}'] = made
        return load

    return add


@MODELS.register_module()
class Way(BaseModel):
    """A model with a part from files, ``net``, and a new one, ``new``."""

    def __init__(self, way: str, path: str) -> None:
        super().__init__()
        self.way, self.path = way, path
        self.new = nn.Linear(4, 4)
        self.net = WAYS[way].build(path)

    def init_weights(self) -> None:
        super().init_weights()
        start = WAYS[self.way].start
        if start is not None:
            start(self.net, self.path)

    def finish(self) -> None:
        """What is done to it once it is initialised."""
        after = WAYS[self.way].after
        if after is not None:
            after(self.net, self.path)

    def forward(self, inputs, labels=None, mode='tensor'):
        parts = [p.float().sum() for p in self.parameters() if p.requires_grad]
        return dict(loss=torch.stack(parts).sum())


@HOOKS.register_module()
class LoadsAfter(Hook):
    """Does what a way does after the model is initialised."""

    priority = 'HIGHEST'

    def before_train(self, runner: Any) -> None:
        getattr(runner.model, 'module', runner.model).finish()


@HOOKS.register_module()
class Seen(Hook):
    """Keeps the model as it is before our hook's turn and after it."""

    priority = 'HIGHEST'

    def before_train(self, runner: Any) -> None:
        self.before = tensors(runner.model)

    def before_train_epoch(self, runner: Any) -> None:
        self.start = tensors(runner.model)


def tensors(model: nn.Module) -> Dict[str, torch.Tensor]:
    """A copy of the state dict, without names of wrappers."""
    model = getattr(model, 'module', model)
    state = model.state_dict().items()
    return {k: v.detach().clone() for k, v in state if hasattr(v, 'dtype')}


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether tensors hold the same, of any dtype, bit for bit."""
    one, other = (t.reshape(-1).view(torch.uint8) for t in (one, other))
    return torch.equal(one, other)


def everywhere(module: nn.Module) -> None:
    """For `Apply`: write all that there is, past torch's functions."""
    for tensor in [*module._parameters.values(), *module._buffers.values()]:
        if tensor is not None:
            tensor.data.fill_(1)


def write_files(folder: Any, seed: int) -> str:
    """Files of which every tensor has other values than those of another
    seed, none of them one single value; gives the folder as a str.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draw = torch.Generator().manual_seed(seed)
    net = Net()
    for tensor in net.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=draw) + 0.5)
        else:
            tensor.fill_(seed)
    state = net.state_dict()
    shapes = dict(
        qkv=(12, 4), q=(4, 4), k=(4, 4), v=(4, 4), anchors=(3, 4), gamma=(6,)
    )
    more = {k: torch.randn(s, generator=draw) for k, s in shapes.items()}
    more['grid'] = torch.randn((1, 17, 4), generator=draw)
    more['layers'] = [torch.randn((4, 4), generator=draw) for _ in range(3)]
    prefixed = {f'backbone.{k}': v for k, v in state.items()}
    old = {k.replace('body.', 'fc.'): v for k, v in state.items()}
    model = {f'net.{k}': v for k, v in state.items()}
    files = dict(state=state, more=more, old=old)
    files['model'] = dict(state_dict=model)
    files['checkpoint'] = dict(state_dict=state, meta=dict(epoch=seed))
    files['prefixed'] = dict(state_dict=prefixed)
    for name, content in files.items():
        torch.save(content, str(folder / f'{name}.pth'))
    torch.save(net, str(folder / 'whole.pt'))
    np.savez(folder / 'arrays.npz', **{k: v.numpy() for k, v in state.items()})
    if digit_version('2.3') <= TORCH:
        import torch.distributed.checkpoint as dcp

        dcp.save(state, checkpoint_id=str(folder / 'dcp'), no_dist=True)
    try:
        from safetensors.torch import save_file
    except ImportError:
        pass
    else:
        save_file(state, str(folder / 'state.safetensors'))
    return str(folder)


def read(path: str, name: str = 'state') -> Dict[str, Any]:
    """One of the files of tensors."""
    return torch.load(f'{path}/{name}.pth')


def make(name: str, path: str) -> Way:
    """A model of a way as it is before training."""
    model = MODELS.build(dict(type='Way', way=name, path=path))
    model.init_weights()
    model.finish()
    return model


def make_seeded(name: str, path: str, seed: int) -> Way:
    """The same, all random numbers from a seed."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return make(name, path)


class Truth(NamedTuple):
    """What is so of one tensor, by elements: decided by a file, drawn."""

    value: torch.Tensor
    by_file: torch.Tensor
    drawn: torch.Tensor

    @property
    def is_constant(self) -> bool:
        """Whether what neither file nor chance decides is one single value,
        or nothing.
        """
        same = self.value[~self.by_file & ~self.drawn]
        return same.unique().numel() <= 1


def truth(name: str, one: str, other: str) -> Dict[str, Truth]:
    """What decided each tensor of a way, by two folders and many seeds."""
    value = tensors(make_seeded(name, one, 1))
    by_file = differing(value, tensors(make_seeded(name, other, 1)))
    drawn = differing(value, tensors(make_seeded(name, one, 2)))
    if any(where.any() and not where.all() for where in drawn.values()):
        # Single elements may be the same by chance, as signs are.
        for seed in range(3, 30):
            again = differing(value, tensors(make_seeded(name, one, seed)))
            drawn = {key: where | again[key] for key, where in drawn.items()}
    return {key: Truth(value[key], by_file[key], drawn[key]) for key in value}


def differing(one: Dict[str, Any], other: Dict[str, Any]) -> Dict[str, Any]:
    """The elements of each tensor that are others."""
    return {key: value != other[key] for key, value in one.items()}


def expected(name: str, facts: Dict[str, Truth]) -> Dict[str, Tuple[str, ...]]:
    """What a report may say of each tensor: by its name, the origins."""
    found: Dict[str, Tuple[str, ...]] = {}
    for key, fact in facts.items():
        if fact.by_file.any():
            found[key] = WAYS[name].says
        else:
            found[key] = ('built',) if fact.is_constant else ('code',)
    # Of a constant beside what was put in, values alone do not tell.
    beside = {owner(key) for key, says in found.items() if says != ('built',)}
    for key, fact in facts.items():
        is_one_value = (
            not (fact.by_file | fact.drawn).any() and fact.is_constant
        )
        if is_one_value and owner(key) in beside:
            known = key in WAYS[name].built
            found[key] = ('built',) if known else ('built', *KEPT)
    return found


def owner(key: str) -> str:
    """The module that a tensor hangs in."""
    return key.rpartition('.')[0]
