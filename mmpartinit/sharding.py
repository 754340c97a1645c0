"""Parameters that lie in parts on several processes.

FSDP, FSDP2 (``fully_shard``: DTensors) and DeepSpeed's ZeRO leave each process
a part of a parameter, of another shape and perhaps under another name. While
:meth:`Shards.shown` is open, a stand-in hangs in the place of each: it has the
whole shape, and no memory. :meth:`Shards.gathered` gives stand-ins the values
and carries what is written to them over to the parts. So nothing else in this
package has to know how a model is sharded.
"""

import math
from contextlib import ExitStack, contextmanager
from typing import (
    Any,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Sequence,
    Tuple,
)

import torch
import torch.distributed as dist
import torch.nn as nn
from torch import Tensor

from .masters import no_access


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


class _Unit:
    """Parameters that are gathered together."""

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


class _FsdpUnit(_Unit):
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


class _SingleUnit(_Unit):
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


class Shards:
    """The parameters of a model that lie in parts.

    Args:
        model (nn.Module): The model, wrapped or not.

    Attributes:
        units (list): Parameters that are gathered together, in order.
        problem (str): Why nothing can be written that would last; '' if it
            can.
    """

    def __init__(self, model: nn.Module) -> None:
        self.problem = no_access(model)
        self.units: List[_Unit] = []
        if dist.is_available() and dist.is_initialized():
            self.units = list(_find_units(model))
            self.problem = self.problem or self._inner(model)
        self._unit_of: Dict[int, _Unit] = {
            id(part.whole): unit for unit in self.units for part in unit.parts
        }

    def _inner(self, model: nn.Module) -> str:
        """Whether parts show whose whole is known further out only."""
        known = {
            (part.owner, part.key)
            for unit in self.units
            for part in unit.parts
        }
        for name, module in model.named_modules():
            for key, parameter in module._parameters.items():
                # FSDP's own mark, of flat parameters as well.
                if (
                    getattr(parameter, '_fsdp_flattened', False)
                    and (module, key) not in known
                    and not hasattr(parameter, '_param_infos')
                ):
                    return (
                        f'{name}.{key} is a part of a parameter under FSDP; '
                        'give the model as it is wrapped, not one from within'
                    )
        return ''

    def __bool__(self) -> bool:
        return bool(self.units)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Have stand-ins hang in the places of the parameters."""
        for unit in self.units:
            unit.hang()
        try:
            yield
        finally:
            for unit in self.units:
                unit.take_down()

    def units_of(self, tensors: Iterable[Tensor]) -> Tuple[_Unit, ...]:
        """What has to be gathered to have these tensors whole, in order."""
        if not self.units:
            return ()
        found = {self._unit_of.get(id(tensor)) for tensor in tensors}
        return tuple(unit for unit in self.units if unit in found)

    @contextmanager
    def gathered(
        self, units: Sequence[_Unit], write: bool = True
    ) -> Iterator[List[Tensor]]:
        """Fill stand-ins with values, and keep what is written to them.

        Every process has to take part, while :meth:`shown` is open.

        Args:
            units (Sequence): From :meth:`units_of` or ``units``.
            write (bool): Whether anything will be written. Defaults to True.

        Yields:
            list[Tensor]: The stand-ins that have memory meanwhile.
        """
        for unit in self.units:
            unit.prepare()
        with ExitStack() as stack:
            for unit in units:
                stack.enter_context(unit.gathered(write))
            yield [part.whole for unit in units for part in unit.parts]


def _find_units(model: nn.Module) -> Iterator[_Unit]:
    from torch.distributed import fsdp

    single: Dict[int, _SingleUnit] = {}
    for module in model.modules():
        if isinstance(module, fsdp.FullyShardedDataParallel):
            if module._flat_param is not None:
                yield _FsdpUnit(module)
        elif isinstance(module, getattr(fsdp, 'FSDPModule', ())):
            # It may have left whole parameters after a forward pass.
            module.reshard()
        for key, parameter in module._parameters.items():
            if id(parameter) not in single:
                # By what they have: importing either takes long, and who has
                # them has imported them.
                if hasattr(parameter, 'full_tensor'):
                    unit = _DTensorUnit(parameter, parameter.shape)
                elif hasattr(parameter, 'ds_shape'):
                    unit = _Zero3Unit(parameter, parameter.ds_shape)
                else:
                    continue
                single[id(parameter)] = unit
            unit = single[id(parameter)]
            unit.parts.append(_Part(module, key, unit.whole))
    yield from single.values()
