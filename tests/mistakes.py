"""Configs with one mistake each, and what `mmpartinit plan` says of them.

Each is text below a whole config of the toy model, `test_mistakes.py` has the
files beside it.
"""

from typing import NamedTuple, Optional

IMPORTS = (
    "custom_imports = dict(imports=['toy'], allow_failed_imports=False)\n"
)
ZERO = "dict(type='Constant', val=0.0)"
SE = "'backbone.**.se'"


class Mistake(NamedTuple):
    """A config, and what is expected.

    Attributes:
        text (str): What is below the whole config.
        status (int): The exit status of `plan`.
        said (str): What `plan` says, a regular expression.
        start (str, optional): What the start ends with, likewise; the same
            where it is None, and empty where the start passes.
        base (str): What the base config adds to the whole one, where the text
            is of a config that inherits from it.
    """

    text: str
    status: int
    said: str
    start: Optional[str] = None
    base: Optional[str] = None


def hook(keys='', **kinds):
    """The hook, with these keys."""
    return f"custom_hooks = [dict(type='CustomModuleInitHook', {keys})]\n"


def rule(path=SE, init_cfg=ZERO, keys=''):
    """The hook with one rule; paths and dicts as text."""
    given = f'init_cfg={init_cfg}, ' if init_cfg else ''
    return hook(f'modules=[dict(path={path}, {given}{keys})]')


def init(init_cfg, path=SE):
    """The hook with one rule of this init_cfg."""
    return rule(path, f'dict({init_cfg})')


def strange(character, place):
    """What is said of a character that belongs in no path."""
    return rf'the {character} \(character {place}.*\) belongs in no path'


NO_RULE = hook('modules=[]')
NEAR = 'the nearest that do exist: '
REFUSED = 'hook should be an instance of Hook or dict'
UNLISTED = 'the Runner wants a list of dicts'
ADDS = (
    "custom_imports = dict(imports=['toy', 'functions'])\n"
    "others = [dict(type='AddsToCheckpoint')]\n"
)
REFUSES = ADDS.replace('AddsTo', 'Refuses') + 'custom_hooks = others\n'
BASE_HOOK = "custom_hooks = [dict(type='EMAHook')]\n"

# Hooks that a Runner refuses, or that it does without.
HOOKS = dict(
    misspelt_hook=Mistake(
        NO_RULE.replace('Module', 'Modules'),
        1,
        "'CustomModulesInitHook'; did you mean 'CustomModuleInitHook'",
        'CustomModulesInitHook is not in',
    ),
    misspelt_other_hook=Mistake(
        "custom_hooks = [dict(type='EMAHok')]\n",
        1,
        "'EMAHok'; did you mean 'EMAHook'",
        'EMAHok is not in',
    ),
    average_of_what=Mistake(
        "custom_hooks = [dict(type='EMAHook', ema_type='Mean')]\n",
        1,
        'EMAHook.before_run raised KeyError.*Mean',
        'Mean is not in',
    ),
    average_with_strange_key=Mistake(
        "custom_hooks = [dict(type='EMAHook', moment=0.1)]\n",
        1,
        "EMAHook.before_run raised TypeError.*'moment'",
        "'moment'",
    ),
    average_of_a_bare_state_dict=Mistake(
        BASE_HOOK + "load_from = 'bare.pth'\n",
        1,
        "EMAHook.after_load_checkpoint raised KeyError: 'state_dict'",
        "KeyError 'state_dict'",
    ),
    hook_that_refuses_the_file=Mistake(
        REFUSES,
        1,
        'RefusesCheckpoint.after_load_checkpoint raised.*not this one',
        'not this one',
    ),
    unknown_hook=Mistake(
        "custom_hooks = [dict(type='Zzz')]\n",
        1,
        "no hook is registered as 'Zzz'.*custom_imports",
        'Zzz is not in',
    ),
    comma_behind=Mistake(
        NO_RULE.strip() + ',\n', 1, f'a list in a list.*{UNLISTED}', REFUSED
    ),
    dict_of_hook=Mistake(
        "custom_hooks = dict(type='CustomModuleInitHook', modules=[])\n",
        1,
        f'is a dict.*{UNLISTED}',
        REFUSED,
    ),
    hook_without_type=Mistake(
        'custom_hooks = [dict(modules=[])]\n',
        1,
        r"a hook is a dict with a `type`, not \{'modules': \[\]\}",
        'type',
    ),
    name_of_hook=Mistake(
        "custom_hooks = ['CustomModuleInitHook']\n",
        1,
        "a hook is a dict with a `type`, not 'CustomModuleInitHook'",
        'CustomModuleInitHook',
    ),
    rules_for_modules=Mistake(
        hook('rules=[]'),
        1,
        "takes no 'rules'; did you mean 'modules'.*it takes modules, seed",
        "'rules'",
    ),
    no_modules=Mistake(hook(), 1, '`modules`.* is missing', "'modules'"),
    dict_of_rule=Mistake(
        hook(f'modules=dict(path={SE}, init_cfg={ZERO})'),
        1,
        '`modules` must be a list of rules',
    ),
    none_modules=Mistake(
        hook('modules=None'),
        1,
        '`modules` must be a list of rules',
    ),
    seed_as_text=Mistake(
        hook("modules=[], seed='1'"),
        1,
        "`seed` must be an int, not '1'",
    ),
    unlike_seeds=Mistake(
        'custom_hooks = [dict(type="CustomModuleInitHook", modules=[], '
        'seed=s) for s in (1, 2)]\n',
        1,
        'must have the same `seed`',
    ),
    report_as_text=Mistake(
        hook("modules=[], report='no'"),
        1,
        "`report` must be True or False, not 'no'",
    ),
    loaded_as_number=Mistake(
        hook('modules=[], loaded=3'),
        1,
        '`loaded` must be a str or a list',
    ),
    loaded_nowhere=Mistake(
        hook("modules=[], loaded=['bakbone']"),
        1,
        "`loaded` names nothing.*did you mean 'backbone'",
        '`loaded` names nothing',
    ),
    unknown_priority=Mistake(
        hook("modules=[], priority='VERY_HIHG'"),
        1,
        "'VERY_HIHG'; did you mean 'VERY_HIGH'",
        'VERY_HIHG',
    ),
    argument_of_other_hook=Mistake(
        "custom_hooks = [dict(type='LoggerHook', intervall=1)]\n",
        1,
        "LoggerHook' takes no 'intervall'; did you mean 'interval'",
        "'intervall'",
    ),
    base_hooks_replaced=Mistake(
        rule(),
        0,
        r'warning \[replaced-hooks\].*EMAHook will not run; to keep them: '
        r"custom_hooks = \[dict\(type='EMAHook'\), \.\.\.\]",
        start='',
        base=BASE_HOOK,
    ),
)

# Rules that cannot be read.
RULES = dict(
    key_of_rule=Mistake(
        rule(keys='overwite=True'),
        1,
        "unknown key 'overwite'; did you mean 'overwrite'",
        "unknown key 'overwite'",
    ),
    init_cgf=Mistake(
        rule(init_cfg='', keys=f'init_cgf={ZERO}'),
        1,
        "unknown key 'init_cgf'; did you mean 'init_cfg'",
        "unknown key 'init_cgf'",
    ),
    no_path=Mistake(
        hook(f'modules=[dict(init_cfg={ZERO})]'),
        1,
        '`path` is missing',
    ),
    no_init_cfg=Mistake(rule(init_cfg=''), 1, 'a rule needs `init_cfg`'),
    both=Mistake(
        rule(keys="copy_from='neck'"),
        1,
        'to combine them, write two rules',
        'to combine them',
    ),
    overwrite_yes=Mistake(
        rule(keys="overwrite='yes'"),
        1,
        "`overwrite` must be True or False, not 'yes'",
        '`overwrite` must be True or False',
    ),
    text_for_rule=Mistake(hook(f'modules=[{SE}]'), 1, 'a rule is a dict'),
    path_as_number=Mistake(rule('3'), 1, '`path` must be a str or a list'),
    empty_init_cfg=Mistake(
        rule(init_cfg='[]'),
        1,
        '`init_cfg` must be a dict or a list of dicts',
    ),
    name_for_init_cfg=Mistake(
        rule(init_cfg="'Constant'"),
        1,
        '`init_cfg` must be a dict or a list of dicts',
    ),
)

# Paths as people write them.
PATHS = dict(
    typo=Mistake(
        rule("'backbone.layer1.0.es'"),
        1,
        f'{NEAR}backbone.layer1.0.se',
        'no module and no parameter',
    ),
    substring=Mistake(
        rule("'adapter'"), 1, f'{NEAR}neck.adapter', 'no module'
    ),
    wrapped=Mistake(
        rule("'module.neck.adapter'"), 1, f'{NEAR}neck.adapter', 'no module'
    ),
    class_name=Mistake(
        rule("'SE'"),
        1,
        r'SE is a class.*it is at backbone\.layer\*\.\*\.se \(4\)',
        'SE is a class',
    ),
    class_below=Mistake(
        rule("'neck.Adapter'"),
        1,
        r'Adapter is a class.*it is at neck\.adapter',
        'Adapter is a class',
    ),
    full_width=Mistake(
        rule("'backbone．**．se'"),
        1,
        strange("'．'", '9, FULLWIDTH FULL STOP'),
    ),
    full_width_letter=Mistake(rule("'ｎeck.adapter'"), 1, strange("'ｎ'", 1)),
    slash=Mistake(rule("'neck/adapter'"), 1, strange("'/'", 5)),
    tab=Mistake(
        rule(r"'neck.adapter\t'"),
        1,
        strange(r"'\\t'", '13, a tab'),
    ),
    space=Mistake(rule("' neck'"), 1, strange("' '", 1)),
    comma=Mistake(
        rule("'neck,head'"),
        1,
        strange("','", 5) + '.*several paths are a list',
    ),
    caret=Mistake(rule("'^neck.*'"), 1, strange(r"'\^'", 1)),
    backslash=Mistake(rule(r"r'neck\.adapter'"), 1, strange(r"'\\\\'", 5)),
    alternation=Mistake(rule("'(neck|head)'"), 1, strange(r"'\('", 1)),
    two_dots=Mistake(rule("'neck..adapter'"), 1, 'empty segment'),
    empty_path=Mistake(rule("''"), 1, 'the path is empty'),
    open_bracket=Mistake(
        rule("'backbone.layer[12.*'"), 1, 'unbalanced square'
    ),
    stars_in_segment=Mistake(
        rule("'back**'"), 1, 'write `\\*` there', 'whole segments'
    ),
    no_parameters=Mistake(
        rule("'data_preprocessor'"),
        1,
        'no parameters in there',
    ),
)
