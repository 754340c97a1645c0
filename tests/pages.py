"""The pages that users read, taken apart: README and docs in each language."""

import re
import textwrap
from pathlib import Path
from typing import Dict, List, NamedTuple

ROOT = Path(__file__).parents[1]
READMES = {'en': ROOT / 'README.md', 'zh_cn': ROOT / 'README_zh-CN.md'}


class Fence(NamedTuple):
    """A block of code: ``python``, ``bash``, ``text``, ``{toctree}``."""

    kind: str
    text: str


class Page:
    """One page, in one language.

    Attributes:
        name (str): ``README``, or the file's name without its ending.
        language (str): ``en`` or ``zh_cn``.
        fences (list[Fence]): Its blocks of code, in order.
        prose (str): The rest of it.
    """

    def __init__(self, path: Path, language: str) -> None:
        self.path, self.language = path, language
        self.name = 'README' if path in READMES.values() else path.stem
        self.text = path.read_text(encoding='utf-8')
        block = r'(?ms)^( *)```(\S*)\n(.*?)^ *```$'
        self.fences = [
            Fence(kind, textwrap.dedent(text))
            for _, kind, text in re.findall(block, self.text)
        ]
        self.prose = re.sub(block, '', self.text)

    def __str__(self) -> str:
        return f'{self.language}/{self.name}'

    def blocks(self, *kinds: str) -> List[str]:
        """Texts of the blocks that are of some kinds."""
        return [text for kind, text in self.fences if kind in kinds]

    def headings(self) -> List[str]:
        """Lines such as ``'## Use it'``."""
        return re.findall(r'(?m)^#+ .*$', self.prose)

    def section(self, number: int) -> str:
        """The text under one of its headings, to the next one."""
        text = self.text.split(f'\n{self.headings()[number]}\n', 1)[1]
        return re.split(r'(?m)^#+ ', re.sub(r'(?m)^#(?!#* )', '', text))[0]

    def rows(self) -> List[List[str]]:
        """Cells of all rows of its tables, without headings."""
        rows = re.findall(r'(?m)^\|(.+)\|$', self.prose)
        cells = [re.split(r'(?<!\\) \| ', row.strip()) for row in rows]
        below = [
            i + 1
            for i, row in enumerate(rows)
            if re.fullmatch(r'[-| :]+', row)
        ]
        heads = {i for end in below for i in (end - 2, end - 1)}
        return [cell for i, cell in enumerate(cells) if i not in heads]

    def links(self) -> List[str]:
        """Targets of links and images."""
        marks = re.findall(r'\]\(([^)\s]+)\)', self.prose)
        return marks + re.findall(r'(?:src|href)="([^"]+)"', self.prose)


def read_pages() -> Dict[str, List[Page]]:
    """All pages, by language."""
    pages = {}
    for language, readme in READMES.items():
        files = sorted((ROOT / 'docs' / language).glob('*.md'))
        files += [readme] if readme.exists() else []
        pages[language] = [Page(path, language) for path in files]
    return pages


PAGES = read_pages()
ALL = [page for pages in PAGES.values() for page in pages]


def codes(text: str) -> List[str]:
    """Pieces of a line that are set as code."""
    found = re.findall(r'``(.+?)``|`([^`]+)`', text)
    return [(double or single).strip() for double, single in found]


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    text = re.sub(r'[`*]|^#+ ', '', heading).strip().lower()
    return re.sub(r'[^\w\- ]', '', text).replace(' ', '-')
