"""The ``mmpartinit`` command, which answers before PyTorch is imported.

A module of the package cannot do that: the package's ``__init__`` imports
PyTorch and MMEngine, to register what it has.
"""

import sys
from importlib.util import find_spec, module_from_spec


def main() -> int:
    """Run the command; returns the exit status."""
    spec = find_spec('mmpartinit')
    assert spec is not None and spec.loader is not None
    # For the time being its parts can be imported, and `__init__` has not run.
    package = module_from_spec(spec)
    sys.modules[spec.name] = package
    from mmpartinit.command import cli, words

    options = words.build_parser().parse_args()
    if options.command not in cli.LIGHT:
        try:
            spec.loader.exec_module(package)
        except ModuleNotFoundError as error:
            print(f'mmpartinit: {error}', file=sys.stderr)
            return 2
    return cli.run(options)
