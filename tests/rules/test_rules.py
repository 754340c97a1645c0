"""Everything that can be wrong with a rule is said when the hook is built."""

import re

import pytest
from mmengine.model import BaseInit, TruncNormalInit
from mmengine.registry import HOOKS, WEIGHT_INITIALIZERS
from toy import SE_ZERO, build_runner

from mmpartinit import Apply, RuleError

ZERO = dict(type='Constant', val=0)


def build(*modules, **others):
    return HOOKS.build(
        dict(type='CustomModuleInitHook', modules=list(modules), **others)
    )


def gate_init(module):
    """A function of a user's own."""


@pytest.mark.parametrize(
    'rule, words',
    [
        (dict(init_cfg=ZERO), '`path` is missing'),
        (dict(path='a'), 'a rule needs `init_cfg`'),
        (dict(path='a', init_cgf=ZERO), "'init_cgf'; did you mean 'init_cfg'"),
        (dict(path='a', init_cfg=ZERO, overwrite=1), '`overwrite` must be'),
        (dict(path='a', init_cfg=ZERO, optional='no'), '`optional` must be'),
        (dict(path='', init_cfg=ZERO), 'the path is empty'),
        (dict(path='a..b', init_cfg=ZERO), 'empty segment'),
        (dict(path=3, init_cfg=ZERO), '`path` must be a str'),
        (dict(path=[], init_cfg=ZERO), '`path` must be a str'),
        (dict(path=['a', 3], init_cfg=ZERO), '`path` must be a str'),
        ('backbone', 'a rule is a dict'),
        (dict(path='a', init_cfg=[]), '`init_cfg` must be'),
        (dict(path='a', init_cfg='Constant'), '`init_cfg` must be'),
        (dict(path='a', init_cfg=[ZERO, 3]), '`init_cfg` must be'),
        (dict(path='a', init_cfg=dict(val=0)), '`type` must name'),
        (dict(path='a', init_cfg=dict(type=3)), '`type` must name'),
        (
            dict(path='a', init_cfg=dict(type='Kaimin')),
            "no initializer is registered as 'Kaimin'; did you mean 'Kaiming'",
        ),
        (
            dict(path='a', init_cfg=[ZERO, dict(type='Constant')]),
            r"init_cfg\[1\].*'val'",
        ),
        (dict(path='a', init_cfg=dict(ZERO, vall=1)), "'vall'"),
        (dict(path='a', init_cfg=dict(ZERO, layer=3)), 'layer must be'),
        (dict(path='a', init_cfg=dict(ZERO, layer=[])), '`layer` is empty'),
        (dict(path='a', init_cfg=dict(ZERO, bias_prob=1)), 'bias_prob'),
        (
            dict(path='a', init_cfg=dict(type='Apply', fn='no.such.fn')),
            "cannot find fn='no.such.fn'",
        ),
        (
            dict(path='a', init_cfg=dict(type='Apply', fn='os.path.sep')),
            'needs a function',
        ),
        (dict(path='a', init_cfg=dict(type='Apply', fn=3)), 'fn is 3'),
        (
            dict(path='a', init_cfg=dict(ZERO, override=dict(val=1))),
            '`override` is a dict with the `name`',
        ),
        (
            dict(
                path='a',
                init_cfg=dict(ZERO, override=dict(name='b', type='Norm')),
            ),
            "override 'b'.*did you mean 'Normal'",
        ),
        (
            dict(
                path='a', init_cfg=dict(ZERO, override=dict(name='b', val=1))
            ),
            "override 'b'.*`type`",
        ),
    ],
)
def test_a_wrong_rule_is_refused_when_the_hook_is_built(rule, words):
    with pytest.raises(RuleError, match=re.compile(words, re.DOTALL)) as info:
        build(SE_ZERO, rule)
    assert 'rule 1' in str(info.value)


def test_all_problems_come_in_one_error():
    with pytest.raises(RuleError) as info:
        build(
            dict(path='a..b', init_cfg=dict(type='Kaimin')),
            SE_ZERO,
            dict(pth='a', init_cfg=ZERO),
        )
    lines = str(info.value).splitlines()
    # MMEngine 0.8 says the class in front.
    assert lines[0].endswith('4 problems in `modules`:')
    assert [re.search(r'\[.*\] rule \d', line)[0] for line in lines[1:]] == [
        '[path] rule 0',
        '[init-cfg] rule 0',
        '[malformed] rule 2',
        '[malformed] rule 2',
    ]


@pytest.mark.parametrize(
    'arguments',
    [dict(seed='3'), dict(seed=True), dict(seed=1.0), dict(report=1)],
)
def test_a_wrong_key_of_the_hook_is_refused(arguments):
    with pytest.raises(RuleError, match='must be'):
        build(SE_ZERO, **arguments)
    with pytest.raises(RuleError, match='must be a list of rules'):
        HOOKS.build(dict(type='CustomModuleInitHook', modules=SE_ZERO))


def test_the_error_comes_when_the_runner_is_built(work_dir):
    hook = dict(type='CustomModuleInitHook', modules=[dict(path='head')])
    with pytest.raises(RuleError, match='a rule needs `init_cfg`'):
        build_runner(work_dir, custom_hooks=[hook])


def test_types_may_be_classes_and_functions_may_be_names():
    hook = build(
        dict(path='a', init_cfg=dict(type=TruncNormalInit, std=0.02)),
        dict(path='b', init_cfg=dict(type=Apply, fn=gate_init)),
        dict(
            path='c', init_cfg=dict(type='Apply', fn=f'{__name__}.gate_init')
        ),
    )
    assert [str(rule.init_cfg[0]) for rule in hook.rules] == [
        'TruncNormalInit(std=0.02)',
        'Apply(fn=gate_init)',
        f"Apply(fn='{__name__}.gate_init')",
    ]


def test_an_initializer_that_a_user_registered_is_known():
    @WEIGHT_INITIALIZERS.register_module(name='UsersOwn')
    class UsersOwn(BaseInit):
        def __call__(self, module):
            pass

    try:
        build(dict(path='a', init_cfg=dict(type='UsersOwn', layer='Linear')))
        with pytest.raises(RuleError, match="did you mean 'UsersOwn'"):
            build(dict(path='a', init_cfg=dict(type='UserOwn')))
    finally:
        WEIGHT_INITIALIZERS.module_dict.pop('UsersOwn')
