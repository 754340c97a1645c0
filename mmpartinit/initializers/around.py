"""What is known around an initializer while it runs, beside its module."""

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Iterator, List, Sequence, Union


@dataclass
class Around:
    """What an initializer may ask for, and where it says what it did.

    Attributes:
        classes (Sequence[str] | str): Names of the classes that a config's
            model is trained on, or why they are not known.
        notes (list[str]): What it did, each as the end of a sentence.
    """

    classes: Union[Sequence[str], str] = (
        'no config is known to an init_cfg outside of a rule'
    )
    notes: List[str] = field(default_factory=list)


_now = Around()


def around() -> Around:
    """What is known now."""
    return _now


@contextmanager
def known(classes: Union[Sequence[str], str]) -> Iterator[Around]:
    """Have these classes known in this block, and notes gathered."""
    global _now
    before, _now = _now, Around(classes)
    try:
        yield _now
    finally:
        _now = before
