"""The ``mmpartinit`` command."""

import argparse
import contextlib
import io
import os
import shutil
import sys
import traceback
import warnings
from typing import Iterator, List, Optional

from .words import build_parser

# What needs neither PyTorch nor MMEngine, nor the package's `__init__`, which
# imports them.
LIGHT = (None, 'show')
_LOG_WIDTH = 100
_MOST_WIDTH = 160  # longer sentences are no help
_LEAST_WIDTH = 60  # what a table of rules takes, with paths still told apart


def main(arguments: Optional[List[str]] = None) -> int:
    """Run the command.

    Args:
        arguments (list[str], optional): Words after the command's name.
            Defaults to None, the process's own.

    Returns:
        int: The exit status.
    """
    return run(build_parser().parse_args(arguments))


def run(options: argparse.Namespace) -> int:
    """Do what the words of the command say; returns the exit status."""
    if options.command is None:
        build_parser().print_help()
        return 0
    try:
        status = _RUN[options.command](options)
        sys.stdout.flush()
    except BrokenPipeError:  # who reads has seen enough, as `head` has
        # Python flushes once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13  # as a program that the signal ends
    return status


def _plan(options: argparse.Namespace) -> int:
    with _talk_aside():
        from .look import LookError, look, read_config
        from .planning import plan_config

    try:
        with _quiet(options.verbose):
            cfg = read_config(options.config, options.cfg_options)
            report = plan_config(look(cfg, not options.no_weights))
        if options.json:
            report.save(options.json)
    except (LookError, OSError) as error:
        return _fail(error, options.verbose)
    print(report.text(width=_width()))
    return int(any(f.level == 'error' for f in report.findings))


def _suggest(options: argparse.Namespace) -> int:
    with _talk_aside():
        from .look import LookError, look, read_config
        from .paste import suggest

    try:
        with _quiet(options.verbose):
            cfg = read_config(options.config, options.cfg_options)
            text = suggest(look(cfg, not options.no_weights))
    except LookError as error:
        return _fail(error, options.verbose)
    print(text)
    return 0


def _check(options: argparse.Namespace) -> int:
    with _talk_aside():
        from .check import check_config
        from .look import LookError

    try:
        with _quiet(options.verbose):
            text, is_fine = check_config(options, _width())
    except (LookError, OSError, ValueError) as error:
        return _fail(error, options.verbose)
    print(text)
    return int(not is_fine)


def _show(options: argparse.Namespace) -> int:
    from ..report.report import InitReport, ReportError

    several = len(options.reports) > 1
    try:
        if several and options.figure:
            raise ReportError('--figure draws one report; name that one alone')
        reports = [InitReport.load(path) for path in options.reports]
        if options.figure:
            reports[0].save_figure(options.figure)
    except (ReportError, OSError, ValueError) as error:
        return _fail(error, False)
    for path, report in zip(options.reports, reports):
        text = report.text(width=_width())
        print(f'{path}:\n{text}\n' if several else text)
    if options.figure:
        print(f'The figure: {options.figure}')
    return 0


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
    with _talk_aside():
        from ..demo.run import run_demo

    run_demo(options.work_dir, options.seeds)
    return 0


_RUN = dict(plan=_plan, suggest=_suggest, check=_check, show=_show, demo=_demo)


def _width() -> int:
    """Characters in a line of the terminal; as in log files, where there is
    none.
    """
    width = shutil.get_terminal_size((_LOG_WIDTH, 0))[0]
    return min(max(_LEAST_WIDTH, width), _MOST_WIDTH)


def _fail(error: Exception, verbose: bool) -> int:
    if verbose:  # its last line is what would be said
        traceback.print_exception(type(error), error, error.__traceback__)
    else:
        print(f'mmpartinit: {error}', file=sys.stderr)
    return 2


def _talk_aside() -> contextlib.AbstractContextManager:
    """DeepSpeed, where it is installed, talks when MMEngine imports it, and
    what the command prints may be pasted.
    """
    return contextlib.redirect_stdout(sys.stderr)


@contextlib.contextmanager
def _quiet(verbose: bool) -> Iterator[None]:
    """Keep what a model's own code says out of the output."""
    from mmengine.logging import MMLogger

    out = sys.stderr if verbose else io.StringIO()
    with contextlib.redirect_stdout(out), warnings.catch_warnings():
        if not verbose:
            warnings.simplefilter('ignore')
        # What MMEngine says about each tensor goes to the latest logger.
        MMLogger.get_instance(
            'mmpartinit', log_level='INFO' if verbose else 'ERROR'
        )
        yield
