"""The words that the ``mmpartinit`` command takes."""

import argparse
import os.path as osp
from typing import Any

from ..version import __version__

_EXAMPLES = """\
from a config with new modules to a look at the outcome:
  mmpartinit suggest configs/my_config.py          a hook to paste into it
  mmpartinit plan configs/my_config.py             what the hook would do
  mmpartinit check configs/my_config.py --base configs/pretrained.py
  python tools/train.py configs/my_config.py
  mmpartinit show work_dirs/my_config/*/init_report.json
"""
_PLAN = """\
examples:
  mmpartinit plan configs/my_config.py
  mmpartinit plan configs/my_config.py --no-weights
  mmpartinit plan configs/my_config.py --json plan.json \\
      --cfg-options load_from=weights/detector.pth model.neck.num_outs=4
  mmpartinit plan mmdet::retinanet/retinanet_r50_fpn_1x_coco.py

exit status: 0; 1 if the plan has errors; 2 if it could not be made.
"""
_SUGGEST = """\
examples:
  mmpartinit suggest configs/my_config.py
  mmpartinit suggest configs/my_config.py \\
      --cfg-options model.backbone.init_cfg.checkpoint=weights/r50.pth

exit status: 0; 2 if the model could not be built or loaded.
"""
_CHECK = """\
examples:
  mmpartinit check configs/my_config.py
  mmpartinit check configs/my_config.py --base configs/pretrained.py \\
      --figure drift.png --json drift.json
  mmpartinit check configs/my_config.py --base configs/pretrained.py --data

exit status: 0; 1 if the network departs from the pretrained one; 2 if that
could not be found out.
"""
_SHOW = """\
examples:
  mmpartinit show work_dirs/my_config/20250101_120000/init_report.json
  mmpartinit show init_report.json --figure init_report.pdf
"""


def build_parser() -> argparse.ArgumentParser:
    """The words that the command takes."""
    parser = argparse.ArgumentParser(
        prog='mmpartinit',
        description='Initialise what you added to a pretrained model, and see '
        'where every weight comes from.',
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--version', action='version', version=f'mmpartinit {__version__}'
    )
    commands = parser.add_subparsers(dest='command')
    for add in (
        _add_plan,
        _add_suggest,
        _add_check,
        _add_show,
        _add_demo,
    ):
        add(commands)
    return parser


def _add_plan(commands: Any) -> None:
    plan = _command(
        commands,
        'plan',
        'see what training with a config would initialize',
        'Build the model of a config, load what the config loads, and print '
        'what each rule would write and keep, what is new and covered by no '
        'rule, and what is wrong. It trains nothing and needs no data.',
        _PLAN,
    )
    _add_config(plan)
    plan.add_argument(
        '--json', metavar='FILE', help="write the plan in the report's format"
    )


def _add_suggest(commands: Any) -> None:
    suggest = _command(
        commands,
        'suggest',
        'write a hook for what no rule covers yet',
        'Build the model of a config, load what the config loads, and print '
        'rules for its new modules, ready to paste into the config.',
        _SUGGEST,
    )
    _add_config(suggest)


def _add_check(commands: Any) -> None:
    check = _command(
        commands,
        'check',
        'see whether the network still computes what it was pretrained to',
        'Build the model of a config as training would start with it, and run '
        'it. With --base, print how far each part that the pretrained network '
        'has too is from what it gives there; without, what each new block '
        'does to what comes after it.',
        _CHECK,
    )
    _add_config(check)
    check.add_argument(
        '--base',
        type=_config,
        metavar='BASE',
        help='the config without the new modules; it loads the pretrained '
        'weights by its own keys',
    )
    check.add_argument(
        '--base-options',
        nargs='+',
        action=_CfgOptions,
        metavar='KEY=VALUE',
        help='as --cfg-options, of BASE',
    )
    check.add_argument(
        '--data',
        action='store_true',
        help="run on a batch of CONFIG's train dataloader, not on random "
        'images',
    )
    check.add_argument(
        '--tolerance',
        type=percentage,
        metavar='PERCENT',
        help='how far any part may be (default: 0.1, and 5 for each open '
        'gate)',
    )
    check.add_argument(
        '--json', metavar='FILE', help='write what was found of all parts'
    )
    check.add_argument(
        '--figure',
        metavar='FILE',
        help='draw the drift along the network into a .png, .pdf or .svg file',
    )


def _add_show(commands: Any) -> None:
    show = _command(
        commands,
        'show',
        'see a saved report',
        'Print the table of an init_report.json, and draw its figure.',
        _SHOW,
    )
    show.add_argument('reports', metavar='REPORT.json', nargs='+')
    show.add_argument(
        '--figure', metavar='FILE', help='draw into a .png, .pdf or .svg file'
    )


def _add_demo(commands: Any) -> None:
    demo = _command(
        commands,
        'demo',
        'see what new modules do to a pretrained network',
        "Pretrain a small ResNet on scikit-learn's digits, insert SE blocks, "
        'fine-tune with the hook and without.',
    )
    demo.add_argument(
        '--work-dir',
        default='work_dirs/digits',
        help='folder for logs, checkpoints and the figure '
        '(default: %(default)s)',
    )
    demo.add_argument(
        '--seeds',
        type=count,
        default=5,
        help='how many seeds to run (default: %(default)s)',
    )


def _command(
    commands: Any, name: str, short: str, text: str, epilog: str = ''
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=short,
        description=text,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_config(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        'config',
        type=_config,
        metavar='CONFIG',
        help='a config file of MMEngine, or one of a package as `_base_` '
        'names it (mmdet::...)',
    )
    command.add_argument(
        '--cfg-options',
        nargs='+',
        action=_CfgOptions,
        metavar='KEY=VALUE',
        help="change the config's values, as in MMEngine's tools",
    )
    command.add_argument(
        '--no-weights',
        action='store_true',
        help='load nothing, for checkpoints that are not at hand; every '
        'tensor counts as new',
    )
    command.add_argument(
        '--verbose',
        action='store_true',
        help="show the model's own log, and tracebacks",
    )


class _CfgOptions(argparse.Action):
    def __call__(self, *arguments: Any, **others: Any) -> None:
        from mmengine.config import DictAction  # which imports PyTorch

        action = DictAction(self.option_strings, self.dest, self.nargs)
        try:
            action(*arguments, **others)
        except (ValueError, AssertionError) as error:
            raise argparse.ArgumentError(
                self, f'write KEY=VALUE ({error})'
            ) from error


def _config(text: str) -> str:
    if '::' not in text and not osp.isfile(text):
        raise argparse.ArgumentTypeError(f'there is no config file {text!r}')
    return text


# argparse names these two where a word is no number at all.
def count(text: str) -> int:
    """A number of things, one at least."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f'{text} is less than 1')
    return number


def percentage(text: str) -> float:
    """A share, from a number in per cent."""
    number = float(text)
    if not number >= 0:
        raise argparse.ArgumentTypeError(f'{text} is less than 0')
    return number / 100
