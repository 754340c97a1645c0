"""The ``mmpartinit`` command."""

import argparse
import sys
from typing import List, Optional

from .version import __version__


def main(arguments: Optional[List[str]] = None) -> int:
    """Run the command.

    Args:
        arguments (list[str], optional): Words after the command's name.
            Defaults to None, the process's own.

    Returns:
        int: The exit status.
    """
    parser = argparse.ArgumentParser(
        prog='mmpartinit',
        description='Say where every weight of a modified model comes from.',
    )
    parser.add_argument(
        '--version', action='version', version=f'mmpartinit {__version__}'
    )
    commands = parser.add_subparsers(dest='command', required=True)
    demo = commands.add_parser(
        'demo',
        help='see what new modules do to a pretrained network',
        description="Pretrain a small ResNet on scikit-learn's digits, "
        'insert SE blocks, fine-tune with the hook and without.',
    )
    demo.add_argument(
        '--work-dir',
        default='work_dirs/digits',
        help='folder for logs, checkpoints and the figure '
        '(default: %(default)s)',
    )
    demo.add_argument(
        '--seeds',
        type=_positive,
        default=5,
        help='how many seeds to run (default: %(default)s)',
    )
    options = parser.parse_args(arguments)
    return _demo(options)


def _demo(options: argparse.Namespace) -> int:
    try:
        import matplotlib  # noqa: F401
        import sklearn  # noqa: F401
    except ModuleNotFoundError as error:
        print(
            f'mmpartinit demo needs {error.name}: '
            "pip install 'mmpartinit[demo]'",
            file=sys.stderr,
        )
        return 2
    from .demo.run import run_demo

    run_demo(options.work_dir, options.seeds)
    return 0


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f'{text} is less than 1')
    return number
