"""Cases by their names."""

from fnmatch import fnmatch
from typing import Iterable, List

from .cases import Case
from .of_libraries import OF_LIBRARIES
from .of_papers import OF_PAPERS


def choose(*patterns: str) -> List[Case]:
    """The cases whose name, or whose block's name, one of some patterns names;
    all, without patterns.
    """
    return [
        case
        for block in [*OF_LIBRARIES, *OF_PAPERS]
        for case in block.cases()
        if not patterns or _is_named(case, patterns)
    ]


def _is_named(case: Case, patterns: Iterable[str]) -> bool:
    names = (case.name, case.block.name)
    return any(fnmatch(name, p) for name in names for p in patterns)
