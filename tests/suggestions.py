"""What `mmpartinit suggest` answers, taken at its word."""

from pathlib import Path

from mmpartinit.command.look import look, read_config
from mmpartinit.command.planning import plan_config


def suggested(text):
    """The rules in a suggestion."""
    names = {}
    exec(compile(text, 'suggestion', 'exec'), names)
    if 'modules' in names:
        return names['modules']
    return names['custom_hooks'][-1]['modules']


def replanned(name, text, **options):
    """The plan of a config with a suggestion pasted below it."""
    path = Path(name).with_name('pasted.py')
    path.write_text(f'{Path(name).read_text()}\n{text}\n')
    return plan_config(look(read_config(str(path), options)))


def findings(report):
    return [f for f in report.findings if f.level != 'note']


def words(text):
    """The comments and code of a suggestion in one line."""
    return ' '.join(text.replace('#', '').split())
