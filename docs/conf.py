"""Sphinx, for each language: `make docs` says which folder and language."""

from mmpartinit import __version__

project = 'mmpartinit'
version = release = __version__
html_title = f'mmpartinit {version}'

extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
html_theme = 'furo'
html_static_path = ['_static']
html_css_files = ['site.css']
html_show_copyright = False
# The pages link to headings as GitHub names them.
myst_heading_anchors = 4
autodoc_member_order = 'bysource'
# Docstrings say the types, in words of their own, and nothing is downloaded
# to look up those of others.
autodoc_typehints = 'none'
nitpick_ignore_regex = [('py:(class|exc)', '.*'), ('py:.*', r'torch\..*')]
