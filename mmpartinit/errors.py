"""What is raised for rules, and the pieces that its sentences are made of."""

import difflib
from typing import Any, Sequence


class RuleError(ValueError):
    """Rules that cannot be carried out; the message lists every problem."""

    @classmethod
    def of(cls, problems: Sequence[str]) -> 'RuleError':
        """One error for all that was found."""
        if len(problems) == 1:
            return cls(problems[0])
        return cls(
            f'{len(problems)} problems in `modules`:'
            + ''.join(f'\n- {problem}' for problem in problems)
        )


def nearest(name: str, known: Sequence[str]) -> str:
    """``'; did you mean ...?'``, or nothing where no known name is near."""
    lower = {other.lower(): other for other in known}
    close = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
    return f'; did you mean {lower[close[0]]!r}?' if close else ''


def short(value: Any) -> str:
    """A value of a config, in as many letters as a sentence bears."""
    text = getattr(value, '__name__', None) or repr(value)
    return text if len(text) <= 60 else text[:57] + '...'


def some(names: Sequence[str], most: int) -> str:
    """The first few names, and how many more there are."""
    more = f' and {len(names) - most} more' if len(names) > most else ''
    return ', '.join(names[:most]) + more
