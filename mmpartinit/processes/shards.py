"""Parameters that lie in parts on several processes.

FSDP, FSDP2 (``fully_shard``: DTensors) and DeepSpeed's ZeRO leave each process
a part of a parameter, of another shape and perhaps under another name. While
:meth:`Shards.shown` is open, a stand-in hangs in the place of each: it has the
whole shape, and no memory. :meth:`Shards.gathered` gives stand-ins the values
and carries what is written to them over to the parts. So nothing else in this
package has to know how a model is sharded.
"""

from contextlib import ExitStack, contextmanager
from typing import Dict, Iterable, Iterator, List, Sequence, Tuple, TypeVar

import torch.distributed as dist
import torch.nn as nn
from torch import Tensor

from .masters import no_access
from .units import Unit, find_units, original

T = TypeVar('T')


class Shards:
    """The parameters of a model that lie in parts.

    Attributes:
        units (list): Parameters that are gathered together, in order.
        problem (str): Why nothing can be written that would last; '' if it
            can.
    """

    def __init__(self, model: nn.Module) -> None:
        self.problem = no_access(model)
        self.units: List[Unit] = []
        if dist.is_available() and dist.is_initialized():
            self.units = list(find_units(model))
            self.problem = self.problem or self._inner(model)
        self._unit_of: Dict[int, Unit] = {
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

    def units_of(self, tensors: Iterable[Tensor]) -> Tuple[Unit, ...]:
        """What has to be gathered to have these tensors whole, in order."""
        if not self.units:
            return ()
        found = {self._unit_of.get(id(tensor)) for tensor in tensors}
        return tuple(unit for unit in self.units if unit in found)

    @contextmanager
    def gathered(
        self, units: Sequence[Unit], write: bool = True
    ) -> Iterator[List[Tensor]]:
        """Fill the stand-ins of some units with values, keep what is written
        to them if anything will be, and give those that have memory meanwhile.

        Every process has to take part, while :meth:`shown` is open.
        """
        for unit in self.units:
            unit.prepare()
        with ExitStack() as stack:
            for unit in units:
                stack.enter_context(unit.gathered(write))
            yield [part.whole for unit in units for part in unit.parts]

    def in_turn(
        self, tensors: Iterable[Tuple[Tensor, T]]
    ) -> Iterator[List[Tuple[Tensor, List[T]]]]:
        """Tensors to read, each once, with all that it was given with: first
        those that are whole, then each unit of others for as long as it is
        gathered.

        Every process has to take part, while :meth:`shown` is open.
        """
        found: Dict[int, Tuple[Tensor, List[T]]] = {}
        for tensor, about in tensors:
            found.setdefault(id(tensor), (tensor, []))[1].append(about)
        yield [pair for pair in found.values() if original(pair[0]) is pair[0]]
        for unit in self.units:
            with self.gathered([unit], write=False) as gathered:
                numbers = {id(tensor) for tensor in gathered} & found.keys()
                yield [found[number] for number in numbers]
