"""What lies in parts on several processes, and how each engine gathers it.

One class for each: FSDP, FSDP2 (``fully_shard``: DTensors) and DeepSpeed's
ZeRO. What they have in common, and who asks them, is in ``shards.py``.
"""

import math
from contextlib import contextmanager
from typing import (
    Any,
    Callable,
    ContextManager,
    Dict,
    Iterator,
    List,
    NamedTuple,
    Sequence,
    Tuple,
)

import torch
import torch.nn as nn
from torch import Tensor


class _Part(NamedTuple):
    """A place where a parameter belongs that lies in parts."""

    owner: nn.Module
    key: str
    whole: nn.Parameter


def _stand_in(shape: Sequence[int], original: nn.Parameter) -> nn.Parameter:
    # One element, seen under every index; not a number, so that an
    # initializer that reads it elsewhere than at its match is found out.
    hollow = torch.empty((), dtype=original.dtype, device=original.device)
    if original.dtype.is_floating_point or original.dtype.is_complex:
        hollow.fill_(math.nan)
    whole = nn.Parameter(hollow.expand(tuple(shape)), original.requires_grad)
    whole.stands_for = original
    return whole


def lies_in_parts(tensor: Tensor) -> bool:
    """Whether a tensor is one process's part of another (a DTensor)."""
    return hasattr(tensor, 'full_tensor')


def original(tensor: Tensor) -> Tensor:
    """The parameter that a stand-in stands for; any other tensor itself."""
    return getattr(tensor, 'stands_for', tensor)


class Unit:
    """Parameters that are gathered together."""

    # Gives the stand-ins values, and keeps what is written to them if asked.
    gathered: Callable[[bool], ContextManager[None]]

    def __init__(self) -> None:
        self.parts: List[_Part] = []
        self._before: List[Tuple[Any, Any]] = []

    def prepare(self) -> None:
        """What has to be done once before anything is gathered."""

    def hang(self) -> None:
        """Put stand-ins in the places of the parameters."""
        self._before = []
        for owner, key, whole in self.parts:
            # FSDP keeps views as attributes, which would hide a parameter.
            kept = owner._parameters.get(key), owner.__dict__.pop(key, None)
            self._before.append(kept)
            owner._parameters[key] = whole

    def take_down(self) -> None:
        """Put back what was there."""
        for (owner, key, _), (parameter, view) in zip(
            self.parts, self._before
        ):
            if parameter is None:
                del owner._parameters[key]
            else:
                owner._parameters[key] = parameter
            if view is not None:
                owner.__dict__[key] = view

    @contextmanager
    def _filled(self, values: Sequence[Tensor]) -> Iterator[None]:
        """Give the stand-ins memory, and leave in it what is written."""
        filled = {
            id(part.whole): (part.whole, part.whole.data, value.detach())
            for part, value in zip(self.parts, values)
        }.values()
        for whole, _, value in filled:
            whole.data = value
        try:
            yield
            for whole, _, value in filled:
                if whole.data_ptr() != value.data_ptr():
                    value.copy_(whole.detach())
        finally:
            for whole, hollow, _ in filled:
                whole.data = hollow


class _FsdpUnit(Unit):
    """What one ``FullyShardedDataParallel`` wraps and no inner one does."""

    def __init__(self, fsdp: nn.Module) -> None:
        super().__init__()
        self._fsdp = fsdp
        # Only the flat parameter knows names and shapes without gathering. Not
        # public API, the same from torch 1.13 on.
        self._flat = flat = fsdp._flat_param
        for info, shape in zip(flat._param_infos, flat._shapes):
            owner, key = info.module, info.param_name
            # With `use_orig_params`, the optimizer has the original one.
            original = owner._parameters.get(key, flat)
            self.parts.append(_Part(owner, key, _stand_in(shape, original)))
        wholes = {(part.owner, part.key): part.whole for part in self.parts}
        for info in flat._shared_param_infos:
            if (info.module, info.param_name) in wholes:
                continue  # a module that hangs in several places
            whole = wholes[info.prim_module, info.prim_param_name]
            self.parts.append(_Part(info.module, info.param_name, whole))
        # Without `use_orig_params` it hangs here.
        self._place = fsdp._fsdp_wrapped_module._parameters
        self._keys = [key for key, p in self._place.items() if p is flat]

    def prepare(self) -> None:
        # Settles which one is the root, before an inner one is gathered and
        # takes itself for it.
        self._fsdp.check_is_root()

    def hang(self) -> None:
        for key in self._keys:
            del self._place[key]
        super().hang()

    def take_down(self) -> None:
        super().take_down()
        for key in self._keys:
            self._place[key] = self._flat

    @contextmanager
    def gathered(self, write: bool) -> Iterator[None]:
        from torch.distributed.fsdp import FullyShardedDataParallel

        self.take_down()
        try:
            with FullyShardedDataParallel.summon_full_params(
                self._fsdp, recurse=False, writeback=write
            ):
                values = [p.owner._parameters[p.key] for p in self.parts]
                super().hang()
                try:
                    with self._filled(values):
                        yield
                finally:
                    super().take_down()
        finally:
            self.hang()


class _SingleUnit(Unit):
    """One parameter, which may have several places."""

    def __init__(self, original: Any, shape: Sequence[int]) -> None:
        super().__init__()
        self.whole = _stand_in(shape, original)
        self._original = original


class _DTensorUnit(_SingleUnit):
    """One parameter of FSDP2 or tensor parallelism."""

    @contextmanager
    def gathered(self, write: bool) -> Iterator[None]:
        from torch.distributed.tensor import DTensor, Replicate

        original = self._original.detach()
        value = original.full_tensor().clone()
        with self._filled([value] * len(self.parts)):
            yield
        if not write:
            return
        mesh = original.device_mesh
        whole = DTensor.from_local(
            value, mesh, [Replicate()] * mesh.ndim, run_check=False
        )
        original.copy_(whole.redistribute(placements=original.placements))


class _Zero3Unit(_SingleUnit):
    """One parameter of DeepSpeed's ZeRO stage 3.

    One by one, since DeepSpeed 0.18 asks for several at once and waits for the
    last of them only.
    """

    @contextmanager
    def gathered(self, write: bool) -> Iterator[None]:
        import deepspeed

        with deepspeed.zero.GatheredParameters(
            [self._original], modifier_rank=0 if write else None
        ):
            with self._filled([self._original] * len(self.parts)):
                yield


def find_units(model: nn.Module) -> Iterator[Unit]:
    """What of a model lies in parts, in order."""
    from torch.distributed import fsdp

    sharded: Any = getattr(fsdp, 'FSDPModule', ())  # since torch 2.6
    single: Dict[int, _SingleUnit] = {}
    for module in model.modules():
        if isinstance(module, fsdp.FullyShardedDataParallel):
            if module._flat_param is not None:
                yield _FsdpUnit(module)
        elif isinstance(module, sharded):
            # It may have left whole parameters after a forward pass.
            module.reshard()
        for key, parameter in module._parameters.items():
            if id(parameter) not in single:
                # By what they have: importing either takes long, and who has
                # them has imported them.
                if lies_in_parts(parameter):
                    unit: _SingleUnit
                    unit = _DTensorUnit(parameter, parameter.shape)
                elif hasattr(parameter, 'ds_shape'):
                    unit = _Zero3Unit(parameter, parameter.ds_shape)
                else:
                    continue
                single[id(parameter)] = unit
            unit = single[id(parameter)]
            unit.parts.append(_Part(module, key, unit.whole))
    yield from single.values()
