"""Pages and links are whole, and both languages say the same.

What the code on the pages does is tested in test_docs_code.py; what their
tables say, in test_docs_tables.py.
"""

import ast
import re
import shlex
from operator import attrgetter
from pathlib import Path

import pytest
from pages import ALL, PAGES, READMES, ROOT, Fence, Page, slug

import mmpartinit
from mmpartinit.command.words import build_parser

CHINESE = PAGES['zh_cn']


def page(name, language='en'):
    return next(p for p in PAGES[language] if p.name == name)


@pytest.mark.parametrize('page', ALL, ids=str)
def test_links_and_images_lead_somewhere(page):
    for link in page.links():
        if re.match(r'https?://', link):
            continue
        file, _, anchor = link.partition('#')
        target = (page.path.parent / file).resolve() if file else page.path
        assert target.exists(), link
        if anchor:
            there = Page(target, page.language).headings()
            assert anchor in map(slug, there), link


def test_figures_are_in_the_language_of_the_page():
    figures = {
        (language, folder, name)
        for language, pages in PAGES.items()
        for found in pages
        for folder, name in re.findall(
            r'(\w+/)?_static/([\w.]+)', found.text.replace('../', '')
        )
    }
    assert len(figures) > 10
    for language, folder, name in figures:
        assert folder in ('', f'{language}/'), name
    for name in {name for *_, name in figures}:
        one, two = (ROOT / f'docs/{x}/_static/{name}' for x in PAGES)
        assert one.read_bytes() != two.read_bytes(), name


@pytest.mark.parametrize('language', list(PAGES))
def test_the_index_names_every_page(language):
    index = page('index', language)
    listed = ' '.join(index.blocks('{toctree}')).split()
    names = {p.name for p in PAGES[language]} - {'README', 'index'}
    assert {word for word in listed if not word.startswith(':')} >= names
    assert {f'{name}.md' for name in names} <= set(index.links())


def test_the_api_has_every_public_name():
    for pages in PAGES.values():
        for api in (p for p in pages if p.name == 'api'):
            told = re.findall(r'auto\w+:: mmpartinit\.(\w+)(?!\.)\b', api.text)
            assert set(mmpartinit.__all__) <= set(told)


@pytest.mark.parametrize('language', list(PAGES))
def test_the_api_names_what_there_is(language):
    api = page('api', language).text
    entries = re.findall(r'auto\w+:: ([\w.]+).*\n(?: +:members: (.*))?', api)
    assert len(entries) > len(mmpartinit.__all__)
    for name, members in entries:
        value = attrgetter(name.partition('.')[2])(mmpartinit)
        for member in members.split(', ') if members else ():
            assert callable(getattr(value, member)), f'{name}.{member}'


@pytest.mark.parametrize('page', ALL, ids=str)
def test_commands_are_those_that_there_are(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    makefile = (ROOT / 'Makefile').read_text()
    code = [line for text in page.blocks('bash') for line in text.splitlines()]
    for words in (shlex.split(line, comments=True) for line in code):
        if words[:1] == ['mmpartinit']:
            for config in (w for w in words if w.endswith('.py')):
                Path(config).parent.mkdir(parents=True, exist_ok=True)
                Path(config).touch()
            build_parser().parse_args(words[1:])
    for target in re.findall(r'`make ([\w-]+)', page.prose):
        assert f'\n{target}:' in makefile, target


# --- the Chinese pages say what the English ones say


def in_english(chinese):
    found = [p for p in PAGES['en'] if p.name == chinese.name]
    assert found, f'{chinese} has no page in English'
    return found[0]


def test_there_is_every_page():
    assert {p.name for p in CHINESE} == {p.name for p in PAGES['en']}


@pytest.mark.parametrize('chinese', CHINESE, ids=str)
def test_the_headings_are_of_the_same_levels(chinese):
    def levels(page):
        return [line.split()[0] for line in page.headings()]

    assert levels(chinese) == levels(in_english(chinese))


@pytest.mark.parametrize('chinese', CHINESE, ids=str)
def test_tables_have_the_same_rows(chinese):
    def rows(page):
        return [len(row) for row in page.rows()]

    assert rows(chinese) == rows(in_english(chinese))


@pytest.mark.parametrize('chinese', CHINESE, ids=str)
def test_the_code_is_the_same(chinese):
    english = in_english(chinese)
    kinds = [fence.kind for fence in english.fences]
    assert [fence.kind for fence in chinese.fences] == kinds
    for theirs, ours in zip(chinese.fences, english.fences):
        assert without_words(theirs) == without_words(ours)


def without_words(fence):
    """Code without what is said in it: comments, and texts in Chinese that
    may stand where an English one does."""
    if fence.kind != 'python':
        words = r'(?m)\s*#(?!\d).*$|^:caption: .*$'
        lines = re.sub(words, '', fence.text).splitlines()
        return [line.rstrip() for line in lines if line.strip()]
    tree = ast.parse(fence.text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and is_words(node.value):
            node.value = 'words'
    return ast.dump(tree)


def is_words(value):
    # Names, patterns and numbers hold no spaces between words.
    return isinstance(value, str) and bool(re.search(r'[一-鿿]|\w \w', value))


def test_words_are_what_is_ignored():
    """The comparison above can fail."""

    def alike(a, b, kind='python'):
        return without_words(Fence(kind, a)) == without_words(Fence(kind, b))

    assert alike('a = 1  # one', 'a = 1  # 一')
    assert alike("print('two words')", "print('两个词')")
    assert not alike("path = 'backbone.se'", "path = 'backbone.fc'")
    assert not alike('a = 1', 'a = 2')
    assert alike(
        'mmpartinit plan a.py  # look', 'mmpartinit plan a.py', 'bash'
    )
    assert not alike('plan a.py', 'plan b.py', 'bash')
    assert not alike('3 tensors', '4 tensors', 'text')


@pytest.mark.parametrize('readme', READMES.values(), ids=lambda p: p.stem)
def test_a_readme_is_one_page(readme):
    if readme.exists():
        assert len(readme.read_text().splitlines()) < 200


@pytest.mark.parametrize('language', [lang for lang in PAGES if PAGES[lang]])
def test_the_picture_is_what_its_script_draws(language, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / 'docs')
    from timeline import LABELS, draw

    picture = ROOT / 'docs' / language / '_static' / 'timeline.svg'
    assert picture.read_text(encoding='utf-8') == draw(LABELS[language])
