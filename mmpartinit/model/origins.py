"""What decided the values that a model's tensors hold."""

from dataclasses import dataclass, field
from typing import Dict, Iterable, List, Set, Union

from .checkpoints import Checkpoint
from .second import Source
from .tree import ModelTree


@dataclass
class Origins:
    """What decided the values of a model's tensors, when training starts.

    Attributes:
        files (dict[str, Source]): Tensors that a file decided, by name, under
            each of their names.
        code (set[str]): Those that are the same whatever the seed, and of
            which no load was seen: copies, inflations, formulas.
        drawn (dict[str, int]): Of those that are so in part only, how many of
            their elements were drawn.
        lost (dict[str, Source]): Those that were loaded, and written over
            before training starts.
        constant (dict[str, float]): Those that hold one value, as far as was
            looked, and which.
        checkpoints (list[Checkpoint]): What became of each state dict that
            was loaded.
        known_by (str): How all that is known, in a sentence's part.
        seeds_itself (bool): Whether the model's code seeds the random numbers.
        looked (bool): Whether the values were looked at.
        expected (bool): Whether the config names a file of weights.
        classes (list[str] | str): Names of the classes that the config trains
            on, or why they are not known.
    """

    files: Dict[str, Source] = field(default_factory=dict)
    code: Set[str] = field(default_factory=set)
    drawn: Dict[str, int] = field(default_factory=dict)
    lost: Dict[str, Source] = field(default_factory=dict)
    constant: Dict[str, float] = field(default_factory=dict)
    checkpoints: List[Checkpoint] = field(default_factory=list)
    known_by: str = ''
    seeds_itself: bool = False
    looked: bool = False
    expected: bool = False
    classes: Union[List[str], str] = 'there is no config to take them from'

    @property
    def kept(self) -> Set[str]:
        """Names of what rules leave as it is."""
        return self.code.union(self.files)

    @property
    def loaded_into(self) -> Set[str]:
        """Paths of the modules that a state dict was loaded into."""
        return {found.path for found in self.checkpoints if found.used}

    def add(self, tree: ModelTree, names: Iterable[str]) -> None:
        """Take tensors for loaded, under each of their names."""
        found = tree.with_sharing(names)
        self.files = {**dict.fromkeys(found, Source()), **self.files}
        self.code -= found

    def of(self, name: str) -> str:
        """``'file'``, ``'code'`` or ``'built'``."""
        if name in self.files:
            return 'file'
        return 'code' if name in self.code else 'built'
