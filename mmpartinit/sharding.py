"""Parameters that lie in parts on several processes.

FSDP, FSDP2 (``fully_shard``: DTensors) and DeepSpeed's ZeRO leave each process
a part of a parameter, of another shape and perhaps under another name. While
:meth:`Shards.shown` is open, a stand-in hangs in the place of each: it has the
whole shape, and no memory. :meth:`Shards.gathered` gives stand-ins the values
and carries what is written to them over to the parts. So nothing else in this
package has to know how a model is sharded.
"""

from contextlib import ExitStack, contextmanager
from typing import (
    Any,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
    Union,
)

import torch
import torch.distributed as dist
import torch.nn as nn
from torch import Tensor


class _Part(NamedTuple):
    """A place where a parameter belongs that lies in parts."""

    owner: nn.Module
    key: str
    whole: nn.Parameter


def _stand_in(shape: Sequence[int], original: nn.Parameter) -> nn.Parameter:
    # One element, seen under every index.
    hollow = torch.empty((), dtype=original.dtype, device=original.device)
    whole = nn.Parameter(hollow.expand(tuple(shape)), original.requires_grad)
    whole.stands_for = original
    return whole


class _Unit:
    """Parameters that are gathered together."""

    def __init__(self) -> None:
        self.parts: List[_Part] = []
        self._before: List[Tuple[Any, Any]] = []

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
        finally:
            for whole, hollow, value in filled:
                if whole.data_ptr() != value.data_ptr():
                    value.copy_(whole.detach())
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
        self._holders = [
            (module, key)
            for module in fsdp.modules()
            for key, parameter in module._parameters.items()
            if parameter is flat
        ]

    def hang(self) -> None:
        for module, key in self._holders:
            del module._parameters[key]
        super().hang()

    def take_down(self) -> None:
        super().take_down()
        for module, key in self._holders:
            module._parameters[key] = self._flat

    @contextmanager
    def gathered(self) -> Iterator[None]:
        from torch.distributed.fsdp import FullyShardedDataParallel

        self.take_down()
        try:
            with FullyShardedDataParallel.summon_full_params(
                self._fsdp, recurse=False
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


class _DTensorUnit(_Unit):
    """One parameter of FSDP2 or tensor parallelism."""

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.whole = _stand_in(original.shape, original)
        self._original = original

    @contextmanager
    def gathered(self) -> Iterator[None]:
        from torch.distributed.tensor import DTensor, Replicate

        original = self._original.detach()
        value = original.full_tensor().clone()
        with self._filled([value] * len(self.parts)):
            yield
        mesh = original.device_mesh
        whole = DTensor.from_local(
            value, mesh, [Replicate()] * mesh.ndim, run_check=False
        )
        original.copy_(whole.redistribute(placements=original.placements))


class _Zero3Unit(_Unit):
    """One parameter of DeepSpeed's ZeRO stage 3.

    One by one, since DeepSpeed 0.18 asks for several at once and waits for the
    last of them only.
    """

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.whole = _stand_in(original.ds_shape, original)
        self._original = original

    @contextmanager
    def gathered(self) -> Iterator[None]:
        import deepspeed

        with deepspeed.zero.GatheredParameters(
            [self._original], modifier_rank=0
        ):
            with self._filled([self._original] * len(self.parts)):
                yield


class Shards:
    """The parameters of a model that lie in parts.

    Args:
        model (nn.Module): The model, wrapped or not.

    Attributes:
        problem (str): Why nothing can be written that would last; '' if it
            can.
    """

    def __init__(self, model: nn.Module) -> None:
        self.problem = _no_access(model)
        self._units: List[_Unit] = []
        if dist.is_available() and dist.is_initialized():
            self._units = list(_find_units(model))
        self._unit_of: Dict[int, _Unit] = {
            id(part.whole): unit for unit in self._units for part in unit.parts
        }

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Have stand-ins hang in the places of the parameters."""
        for unit in self._units:
            unit.hang()
        try:
            yield
        finally:
            for unit in self._units:
                unit.take_down()

    def units_of(self, tensors: Iterable[Tensor]) -> Tuple[_Unit, ...]:
        """What has to be gathered to have these tensors whole, in order."""
        if not self._units:
            return ()
        found = {self._unit_of.get(id(tensor)) for tensor in tensors}
        return tuple(unit for unit in self._units if unit in found)

    @contextmanager
    def gathered(self, units: Sequence[_Unit]) -> Iterator[List[Tensor]]:
        """Fill stand-ins with values, and keep what is written to them.

        Every process has to take part.

        Args:
            units (Sequence): From :meth:`units_of`.

        Yields:
            list[Tensor]: The stand-ins that have memory meanwhile.
        """
        with ExitStack() as stack:
            for unit in units:
                stack.enter_context(unit.gathered())
            yield [part.whole for unit in units for part in unit.parts]


def _find_units(model: nn.Module) -> Iterator[_Unit]:
    from torch.distributed.fsdp import FullyShardedDataParallel

    single: Dict[int, Union[_DTensorUnit, _Zero3Unit]] = {}
    for module in model.modules():
        if isinstance(module, FullyShardedDataParallel):
            # Settles which one is the root, before an inner one is gathered
            # and takes itself for it.
            module.check_is_root()
            if module._flat_param is not None:
                yield _FsdpUnit(module)
        elif hasattr(type(module), 'reshard'):
            # FSDP2 may have left whole parameters after a forward pass.
            module.reshard()
        for key, parameter in module._parameters.items():
            kind = _kind(parameter)
            if kind is not None:
                unit = single.setdefault(id(parameter), kind(parameter))
                unit.parts.append(_Part(module, key, unit.whole))
    yield from single.values()


def _kind(parameter: Any) -> Optional[type]:
    # By what they have: importing either takes long, and who has them has
    # imported them.
    if hasattr(parameter, 'full_tensor'):
        return _DTensorUnit
    return _Zero3Unit if hasattr(parameter, 'ds_shape') else None


def _no_access(model: nn.Module) -> str:
    """Whether DeepSpeed keeps copies that cannot be reached."""
    if not hasattr(model, 'zero_optimization_stage'):
        return ''
    halves = {
        'bf16': model.bfloat16_enabled(),
        'fp16': model.fp16_enabled(),
        'amp': model.amp_enabled(),
    }
    kind = next((kind for kind, enabled in halves.items() if enabled), None)
    if kind and model.zero_optimization_stage() == 0:
        return (
            f'DeepSpeed with {kind} and without ZeRO keeps fp32 copies of the '
            'weights out of reach, and its first step would undo what is '
            'written; set zero_optimization=dict(stage=1), which costs no '
            'more memory'
        )
    offload = model.zero_offload_param()
    if offload is not None and offload.device == 'nvme':
        return (
            'DeepSpeed keeps the parameters on NVMe, where they cannot be '
            "written; set offload_param=dict(device='cpu')"
        )
    return ''


def is_optimized(tensor: Tensor, optimized: Set[int]) -> bool:
    """Whether an optimizer updates a parameter.

    Args:
        tensor (Tensor): A parameter of the model, or what stands in for it.
        optimized (set[int]): ``id()`` of what the optimizers have.
    """
    original = getattr(tensor, 'stands_for', tensor)
    # DeepSpeed gives its optimizers flat copies, and marks what is in them.
    marks = ('_z3_optimizer', '_hp_mapping')
    return id(original) in optimized or any(
        hasattr(original, mark) for mark in marks
    )


def write_masters(tensors: Iterable[Tensor]) -> None:
    """Carry values over to the master copies that DeepSpeed's optimizers keep.

    Without that, the first step would undo what was written.

    Args:
        tensors (Iterable[Tensor]): Parameters of the model, or what stands in
            for them, whose parts are up to date.
    """
    for tensor in tensors:
        parameter = getattr(tensor, 'stands_for', tensor)
        if not parameter.requires_grad:
            continue  # has none
        if hasattr(parameter, '_z3_optimizer'):
            from deepspeed.utils import safe_set_local_fp32_param

            # `safe_set_full_fp32_param` fails where the number of elements
            # cannot be divided by that of the processes (0.18).
            value = parameter.ds_tensor.detach().float()
            safe_set_local_fp32_param(parameter, value)
        elif hasattr(parameter, '_hp_mapping'):
            from deepspeed.utils import safe_set_full_fp32_param

            safe_set_full_fp32_param(parameter, parameter.detach().float())
