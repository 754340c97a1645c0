"""One match written: its new tensors, and nothing else."""

from typing import List, Set

from ..errors import RuleError, some, told
from ..rules.init_cfg import InitItem
from ..rules.matching import Match
from .memory import PrivateMemory, Scratch
from .outside import Structure
from .watch import Memory, WriteWatch, memory_map


def write_match(
    match: Match, outside: Memory, scratch: Scratch
) -> List[Set[str]]:
    """Let the initializers of a rule write to one of its matches.

    Args:
        match (Match): The match.
        outside (dict): Where the model lies before and after, as
            :func:`memory_map` gives it; not asked for initializers of which
            it is known what they write.
        scratch (Scratch): Memory for what is written by those that read
            nothing.

    Returns:
        list[set[str]]: For each initializer, the names of what it wrote under
        the match, those included that are kept.

    Raises:
        RuleError: If an initializer fails, replaces what it should write, or
            writes to something outside of the match, or past the match's own
            memory.
    """
    try:
        return _written(match, outside, scratch)
    except RuleError as error:
        raise error.about(match.rule, str(match)) from error.__cause__
    except Exception as error:
        failed = RuleError.of('failed', told(error))
        raise failed.about(match.rule, str(match)) from error


def _written(
    match: Match, outside: Memory, scratch: Scratch
) -> List[Set[str]]:
    items = match.rule.init_cfg
    are_known = all(item.writes for item in items)
    structure = None if are_known else Structure(match.target)
    memory = PrivateMemory(
        match.new,
        match.kept if items else [],  # a copy reaches no further
        structure.other_tensors() if structure else [],
        None if match.is_read or not items else scratch,
    )
    wrote: List[Set[str]] = []
    try:
        for item in items:
            if item.writes:
                item(match.target)
                wrote.append(match.known_writes(item))
            else:
                before = memory.values() if wrote else {}
                wrote.append(_watched(item, match, outside))
                wrote[-1] |= memory.changed(wrote[-1], before)
        if not items:
            wrote.append(_copy(match))
        if structure:
            structure.check()
        memory.take_home(set().union(*wrote))
    except BaseException:
        if structure:
            structure.restore()
        raise
    finally:
        memory.give_back()
    return wrote


def _watched(item: InitItem, match: Match, outside: Memory) -> Set[str]:
    """Call an initializer, and see what it writes through torch."""
    reach = {entry.path: entry.value for entry in [*match.new, *match.kept]}
    watch = WriteWatch(memory_map(reach.items()), outside)
    failed = None
    try:
        with watch:
            item(match.target)
    except Exception as error:
        failed = error
    beyond = sorted(watch.outside)
    if beyond:
        raise RuleError.of(
            'outside',
            f'its initializer would also write {some(beyond, 5)}, outside of '
            'what the path names, and was stopped; name it by a path as well',
            beyond,
        ) from failed
    if failed is not None:
        raise failed
    return watch.written


def _copy(match: Match) -> Set[str]:
    """Write the values of other tensors; does not make them the same."""
    copies = match.copies
    for entry in match.new:
        if entry.path in copies:
            entry.value.data.copy_(copies[entry.path].value.data)
    return set(copies)
