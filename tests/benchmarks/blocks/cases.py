"""What a case is: a block at a place, as the config of a model."""

from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Tuple

C = 'channels'  # which the place fills in
INLINE = ('in branch', 'after')  # takes features, gives features
LATE = ('in late branch', 'after the last')
LATE_ADDED = ('added in late branch', 'added after the last')
BESIDE = ('beside block', 'beside conv')
FACTOR = ('factor in branch', 'factor after')
FOR_CONV = ('for conv1', 'for conv2')
FOR_EARLY_CONV = ('for early conv1', 'for early conv2')


@dataclass(frozen=True)
class Block:
    """A block, and where it is put.

    Attributes:
        name (str): What it is called.
        group (str): Who wrote it: mmcv, mmdet, or papers ("own").
        plug (dict): Its config.
        places (tuple[str]): Where it is put; see :mod:`.places`.
        gate (bool): Whether its best start is a gate that is nearly open.
    """

    name: str
    group: str
    plug: Dict[str, Any]
    places: Tuple[str, ...] = INLINE
    gate: bool = False

    def cases(self) -> Iterator['Case']:
        """One for each place."""
        for place in self.places:
            backbone = dict(type='PluggedResNet', plug=self.plug, place=place)
            model = dict(type='DigitsClassifier', backbone=backbone)
            yield Case(self, place, model)


@dataclass(frozen=True)
class Odd:
    """A block whose places need models of their own."""

    name: str
    group: str
    models: Dict[str, Dict[str, Any]]
    gate: bool = False

    def cases(self) -> Iterator['Case']:
        """One for each place."""
        for place, model in self.models.items():
            yield Case(self, place, model)


@dataclass(frozen=True)
class Case:
    """A block at a place.

    Attributes:
        block (Block): The block.
        place (str): The place.
        model (dict): The model with it.
    """

    block: Any
    place: str
    model: Dict[str, Any] = field(repr=False)

    @property
    def name(self) -> str:
        """Block and place."""
        return f'{self.block.name} @ {self.place}'

    @property
    def parts(self) -> List[str]:
        """Names of the modules, beside this one, that know its classes."""
        own = ['places', 'gates', 'branches', 'layers']
        return own if self.block.group == 'own' else ['openmmlab', *own]
