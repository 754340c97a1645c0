"""The second start: a model built once more, with another seed.

What comes out the same whatever the seed was not drawn. No list of ways to
load weights can be complete; two starts tell for all of them.
"""

import copy
import logging
import os
import time
import warnings
import weakref
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import (
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Union,
)

import torch
import torch.nn as nn
from mmengine.logging import MessageHub, MMLogger
from torch import Tensor

from ..processes.ranks import together
from ..processes.room import no_room
from ..seeding import module_seed, random_state_kept, seed_everything
from .loading import Record, Recorded, recorded
from .tree import Entry, ModelTree
from .values import Trace, drawn_elements, is_one_value, trace
from .whole import WholeModel

Build = Callable[[], nn.Module]
# Where the tensors of files lie, by what they are known by.
Files = Dict[Trace, 'Source']


class Source(NamedTuple):
    """Where values lie.

    Attributes:
        file (str, optional): A file's name, where it is known.
        key (str, optional): The name of the tensor in it, where it is known.
    """

    file: Optional[str] = None
    key: Optional[str] = None


@dataclass
class SecondStart:
    """A model as it is when built once more.

    Attributes:
        tree (ModelTree): Its tensors.
        recorded (Recorded): What was loaded into it.
        files (dict): Tensors of the files that were read for it.
        seconds (float): How long it took.
        seeds_itself (bool): Whether its code seeded the random numbers, so
            that it tells nothing.
    """

    tree: ModelTree
    recorded: Recorded
    files: Files
    seconds: float
    seeds_itself: bool

    @property
    def parts(self) -> List['weakref.ref[Union[nn.Module, Tensor]]']:
        """Its modules and parameters, for as long as there are any."""
        return [weakref.ref(node.value) for node in self.tree.nodes]


def second_start(build: Build, first: ModelTree) -> Union[SecondStart, str]:
    """Build a model once more, on all ranks together, with another seed.

    Everything that training could notice is afterwards as it was before: the
    random state, the log, what is kept under global names.

    Returns:
        SecondStart | str: The start; on every rank the reason why there is
        none, where one of them had no memory for it or failed.
    """
    problem = no_room(entry.value for entry in first.entries)
    problem = _first(together(None, problem))
    if problem:
        return problem
    files: Files = {}
    seed = module_seed(torch.initial_seed(), 'second start')
    begun = time.perf_counter()
    try:
        with _unnoticed(), files_read(files):
            seed_everything(seed, _devices())
            tree = ModelTree(build())
            seeds_itself = torch.initial_seed() != seed
        owners = {id(entry.owner) for entry in first.entries}
        if owners.issuperset(id(entry.owner) for entry in tree.entries):
            problem = 'what is built again is the model itself'
    # A model's code raises anything, and may mean to end the program.
    except (Exception, SystemExit) as error:
        problem = f'the model cannot be built again ({_sentence(error)})'
    problem = _first(together(None, problem))
    if problem:
        return problem
    seconds = time.perf_counter() - begun
    return SecondStart(tree, recorded(tree), files, seconds, seeds_itself)


def _first(problems: List[str]) -> str:
    return next(filter(None, problems), '')


def _sentence(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f'{type(error).__name__}: {lines[0][:200] if lines else ""}'


def _devices() -> List[int]:
    if not torch.cuda.is_initialized():
        return []
    return list(range(torch.cuda.device_count()))


@contextmanager
def _unnoticed() -> Iterator[None]:
    # `init_weights` writes the list of all parameters to the handlers' files,
    # past any level.
    logger = MMLogger.get_current_instance()
    handlers, logger.handlers = logger.handlers, []
    disabled = logging.root.manager.disable
    hub = MessageHub.get_current_instance()
    info, scalars = dict(hub.runtime_info), copy.deepcopy(hub.log_scalars)
    logging.disable(logging.CRITICAL)
    try:
        with random_state_kept(_devices()), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            with open(os.devnull, 'w') as nothing:
                with redirect_stdout(nothing), redirect_stderr(nothing):
                    yield
    finally:
        logging.disable(disabled)
        logger.handlers = handlers
        for there, told in (
            (hub.runtime_info, info),
            (hub.log_scalars, scalars),
        ):
            there.clear()
            there.update(told)


@contextmanager
def files_read(files: Files) -> Iterator[None]:
    """Note the tensors of all files that :func:`torch.load` reads."""
    load = torch.load

    def noting(file: Any, *args: Any, **kwargs: Any) -> Any:
        found = load(file, *args, **kwargs)
        name = file if isinstance(file, (str, os.PathLike)) else None
        name = name or getattr(file, 'name', None)
        note_tensors(files, str(name) if name else None, found)
        return found

    torch.load = noting
    try:
        yield
    finally:
        torch.load = load


def note_tensors(
    files: Files,
    file: Optional[str],
    found: Any,
    key: str = '',
    depth: int = 0,
) -> None:
    """Note the tensors of what a file holds: a state dict, or a few dicts
    around one.
    """
    if isinstance(found, nn.Module):
        found = found.state_dict()
    if isinstance(found, Tensor):
        seen = trace(found) if found.is_floating_point() else None
        if seen is not None and not seen.is_one_value:
            files.setdefault(seen, Source(file, key or None))
    elif isinstance(found, dict) and depth < 3:
        for name, value in found.items():
            # The key as the state dict has it, whatever is around it.
            inner = str(name) if isinstance(value, Tensor) else key
            note_tensors(files, file, value, inner, depth + 1)


class Seen(NamedTuple):
    """A tensor when training starts.

    Attributes:
        trace (Trace, optional): What it is known by, where it can be read.
        is_constant (bool): Whether it holds one value.
        elements (int): How many elements it has.
        drawn (int, optional): How many of them were drawn; None where there
            is no second start to tell.
        was_kept (bool): Whether the second start still holds what was loaded
            there.
    """

    trace: Optional[Trace]
    is_constant: bool = False
    elements: int = 0
    drawn: Optional[int] = None
    was_kept: bool = False


def look(whole: WholeModel, second: Optional[SecondStart]) -> Dict[str, Seen]:
    """Look at each tensor once; those that lie in parts are gathered."""
    others: Dict[str, Entry] = {}
    if second is not None:
        others = {entry.path: entry for entry in second.tree.entries}
    again = second.recorded.records if second else {}
    found = {e.path: Seen(None) for e in whole.tree.entries}
    tensors = [(entry.value, entry.path) for entry in whole.tree.entries]
    with whole.bare():
        for there in whole.shards.in_turn(tensors):
            for tensor, names in there:
                for name in names:
                    other = others[name].value if name in others else None
                    found[name] = _see(tensor, other, again.get(name))
    return found


def _see(
    tensor: Tensor, other: Optional[Tensor], again: Optional[Record]
) -> Seen:
    known = trace(tensor)
    if known is None:
        return Seen(None)
    drawn, was_kept = None, False
    if other is not None and other.shape == tensor.shape:
        theirs = trace(other)
        if theirs is not None:
            drawn = drawn_elements(tensor, other)
            was_kept = bool(
                again and again.trace and theirs.is_of(again.trace)
            )
    is_constant = known.is_one_value and is_one_value(tensor)
    return Seen(known, is_constant, tensor.numel(), drawn, was_kept)
