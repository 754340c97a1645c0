"""Sphinx, for each language: `make docs` says which folder and language."""

import os

import jieba

from mmpartinit import __version__

HERE = os.path.dirname(__file__)

project = 'mmpartinit'
version = release = __version__
html_title = f'mmpartinit {version}'

extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx_copybutton',
]
templates_path = ['_templates']
# The theme's words in Chinese.
locale_dirs = [os.path.join(HERE, 'locale')]
html_theme = 'furo'
html_static_path = ['_static']
html_css_files = ['site.css']
html_favicon = '_static/favicon.svg'
html_show_copyright = False
html_sidebars = {
    '**': [
        'sidebar/brand.html',
        'other-language.html',
        'sidebar/search.html',
        'sidebar/scroll-start.html',
        'sidebar/navigation.html',
        'sidebar/scroll-end.html',
    ]
}
# The dictionary has words that jieba would take apart, and people search for.
jieba.setLogLevel('WARNING')  # else it tells of its dictionary
html_search_scorer = os.path.join(HERE, 'scorer.js')
html_search_options = {'dict': os.path.join(HERE, 'words.txt')}
# The pages link to headings as GitHub names them.
myst_heading_anchors = 4
autodoc_member_order = 'bysource'
# Docstrings say the types, in words of their own, and nothing is downloaded
# to look up those of others.
autodoc_typehints = 'none'
nitpick_ignore_regex = [('py:(class|exc)', '.*'), ('py:.*', r'torch\..*')]
