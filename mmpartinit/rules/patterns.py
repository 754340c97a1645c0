"""Path patterns, which select modules and parameters by their names.

A path is a dotted name as ``named_modules()`` and ``named_parameters()`` give
it, without the prefixes of wrappers. In a pattern, ``*`` stands for one
segment or a part of one, ``?`` for one character, ``[34]`` for one of these
characters, ``{a,b}`` for either word and ``**`` for any number of segments,
none included.
"""

import fnmatch
import re
import unicodedata
from typing import Collection, Iterator, List, Optional, Sequence, Tuple

from ..errors import RuleError, short

# Of what one pattern may have, so that reading it takes no time to notice.
_MOST_PIECES = 100
_MOST_PATHS = 10_000
_STARS = re.compile(r'\*\*|\*')
# What does not show, or not as what it is.
_CALLED = {' ': 'a space', '\t': 'a tab', '\n': 'a line break'}


def parse_pattern(pattern: str) -> List[Tuple[str, ...]]:
    """Split a pattern such as ``'backbone.layer{3,4}.**.se'`` into the plain
    ones that it stands for, braces gone, and each of these into segments.

    Raises:
        RuleError: If the pattern is empty or broken, with what to write
            instead.
    """
    if not pattern:
        raise _wrong(
            'the path is empty; write the dotted name of a module '
            "or parameter, or '**' for the whole model"
        )
    if pattern.count('{') > _MOST_PIECES or pattern.count('.') > _MOST_PIECES:
        raise _wrong(
            f'{short(pattern)} has more than {_MOST_PIECES} segments or braces'
        )
    alternatives: List[Tuple[str, ...]] = []
    for place, character in enumerate(pattern):
        if is_strange(character):
            raise _wrong(f'in {pattern!r}, {what_is_strange(pattern, place)}')
    for plain in _expand_braces(pattern):
        if len(alternatives) == _MOST_PATHS:
            raise _wrong(
                f'{short(pattern)} stands for over {_MOST_PATHS:,} paths; '
                'write `*`, or several rules'
            )
        segments = tuple(plain.split('.'))
        for segment in segments:
            _check_segment(segment, plain)
        alternatives.append(segments)
    return alternatives


def is_strange(character: str) -> bool:
    """Whether a character belongs in no path: spaces, and what Python's names
    have in another form (full-width letters).
    """
    plain = unicodedata.normalize('NFKC', character)
    return character.isspace() or plain.isascii() > character.isascii()


def wildcards(segments: Sequence[str]) -> List[str]:
    """The ``*`` and ``**`` of a pattern, in order."""
    # In a bracket, a star is a character.
    plain = (re.sub(r'\[!?\]?[^\]]*\]', '', s) for s in segments)
    return [star for segment in plain for star in _STARS.findall(segment)]


def stand_for(segments: Sequence[str], path: str) -> List[str]:
    """What each ``*`` and ``**`` of a pattern stands for in a path that it
    matches; where that can be read in several ways, the earlier ones stand
    for as little as can be.
    """
    regex = ''
    for segment in segments:
        if segment == '**':
            regex += r'((?:[^.]+\.)*?)'
            continue
        for piece in re.split(r'(\*|\?|\[!?\]?[^\]]*\])', segment):
            if piece == '*':
                regex += '([^.]*?)'
            else:  # as `fnmatch` has it, without what it puts around it
                whole = fnmatch.translate(piece)
                regex += whole[whole.index(':') + 1 : whole.rindex(')')]
        regex += r'\.'
    found = re.fullmatch(regex, f'{path}.' if path else '')
    assert found, f'{path!r} is not of {".".join(segments)!r}'
    return [text.rstrip('.') for text in found.groups()]


def filled_in(pattern: str, words: Sequence[str]) -> str:
    """A pattern with words in place of its ``*`` and ``**``, in order."""
    rest = iter(words)
    path = _STARS.sub(lambda star: next(rest), pattern)
    return '.'.join(filter(None, path.split('.')))


def first_place(pattern: str, letters: Collection[str]) -> Optional[int]:
    """Where in a pattern the first character is that neither the paths of a
    model, whose letters are given, nor wildcards have; None if there is none.
    """
    # Commas belong between braces only.
    plain = re.sub(r'\{[^{}]*\}', lambda m: m[0].replace(',', '-'), pattern)
    for place, character in enumerate(plain):
        is_name = character.isascii() and character.isalnum()
        if not is_name and character not in '_-.*?[]!{}':
            if character not in letters:
                return place
    return None


def what_is_strange(pattern: str, place: int) -> str:
    """Which character of a pattern does not belong there, and what a path
    is.
    """
    character = pattern[place]
    name = _CALLED.get(character, '')
    if not character.isascii():
        name = unicodedata.name(character, '')
    where = f'character {place + 1}' + (f', {name}' if name else '')
    return (
        f'the {character!r} ({where}) belongs in no path; a path is a dotted '
        'name such as backbone.layer1.0.conv1, with the wildcards `*`, `**`, '
        '`?`, `[34]` and `{a,b}`, and several paths are a list'
    )


def _wrong(message: str) -> RuleError:
    return RuleError.of('path', message)


def _check_segment(segment: str, pattern: str) -> None:
    if not segment:
        raise _wrong(
            f'{pattern!r} has an empty segment: a dot at an end, '
            'or two in a row'
        )
    if '**' in segment and segment != '**':
        place = first_place(pattern, ())
        if place is not None:
            text = what_is_strange(pattern, place)
            raise _wrong(f'in {pattern!r}, {text}')
        raise _wrong(
            f'`**` stands for whole segments, so it cannot be a '
            f'part of {segment!r}; write `*` there'
        )
    rest = re.sub(r'\[!?\]?[^\]]*\]', '', segment)
    if '[' in rest or ']' in rest:
        raise _wrong(f'unbalanced square bracket in {segment!r}')


def _expand_braces(pattern: str) -> Iterator[str]:
    start = pattern.find('{')
    if start < 0:
        if '}' in pattern:
            raise _wrong(f'`}}` without `{{` in {pattern!r}')
        yield pattern
        return
    depth, commas = 0, [start]
    for end in range(start, len(pattern)):
        depth += {'{': 1, '}': -1}.get(pattern[end], 0)
        if depth == 0:
            break
        if depth == 1 and pattern[end] == ',':
            commas.append(end)
    else:
        raise _wrong(f'`{{` without `}}` in {pattern!r}')
    if len(commas) == 1:
        raise _wrong(
            f'{pattern[start : end + 1]!r} names no alternatives: write '
            '`{a,b}` for words, `[2-4]` for one of several characters'
        )
    words = [pattern[i + 1 : j] for i, j in zip(commas, commas[1:] + [end])]
    for word in words:
        for expanded in _expand_braces(word + pattern[end + 1 :]):
            yield pattern[:start] + expanded
