"""More configs with one mistake each, which show when something is built,
loaded or written; and configs without a mistake.
"""

from mistakes import (
    BASE_HOOK,
    IMPORTS,
    NO_RULE,
    SE,
    ZERO,
    Mistake,
    hook,
    init,
    rule,
)

BACKBONE = "model = dict(type='ToyModel', backbone=dict(init_cfg={}))\n"
LOADS = "type='Pretrained', checkpoint={!r}"

# What an init_cfg says.
INITIALIZERS = dict(
    misspelt=Mistake(
        init("type='Kaimin', layer='Linear'"),
        1,
        "registered as 'Kaimin'; did you mean 'Kaiming'",
    ),
    unknown=Mistake(init("type='Zzz'"), 1, "registered as 'Zzz'.*custom_imp"),
    without_type=Mistake(init('val=0.0'), 1, '`type` must name an initiali'),
    layers=Mistake(
        init("type='Normal', layers='Linear'"),
        1,
        "'Normal' takes no 'layers'; did you mean 'layer'.*it takes mean, std",
    ),
    missing_argument=Mistake(init("type='Constant'"), 1, "missing.*'val'"),
    std_as_text=Mistake(
        init("type='TruncNormal', layer='Linear', std='0.02'"),
        1,
        r'rule 0 .*TypeError',
    ),
    val_as_text=Mistake(
        init("type='Constant', val='0'"), 1, r'rule 0 .*TypeError'
    ),
    unknown_mode=Mistake(
        init("type='Kaiming', layer='Linear', mode='fan-in'"),
        1,
        'Mode fan-in not supported.*fan_in',
    ),
    unknown_distribution=Mistake(
        init("type='Kaiming', layer='Linear', distribution='gauss'"),
        1,
        r"rule 0 .*distribution in \['uniform', 'normal'\]",
    ),
    negative_std=Mistake(
        init("type='Normal', layer='Linear', std=-1"), 1, 'normal expects std'
    ),
    not_finite=Mistake(
        init("type='Constant', val=float('nan')"), 1, 'not finite'
    ),
    layer_in_no_match=Mistake(
        init("type='Normal', layer='Conv2d'"),
        1,
        r"no layer there is a 'Conv2d'; there are.*Linear \(8\)",
    ),
    misspelt_layer=Mistake(
        init("type='Normal', layer='Liner'"), 1, "did you mean 'Linear'"
    ),
    empty_layer=Mistake(
        init("type='Normal', layer=[]"), 1, '`layer` is empty'
    ),
    norm_by_xavier=Mistake(
        init("type='Xavier'"), 1, 'fewer than two dimensions.*say with `layer`'
    ),
    override_nowhere=Mistake(
        init("type='Constant', val=0, override=dict(name='fc3')"),
        1,
        "`override` names 'fc3'.*did you mean 'fc",
    ),
    override_without_name=Mistake(
        init("type='Constant', val=0, override=dict(val=1)"),
        1,
        'each `override` is a dict with the `name`',
    ),
    no_init_weights=Mistake(
        init("type='InitWeights'"), 1, r'no init_weights\(\) to call'
    ),
    no_function=Mistake(
        init("type='Apply', fn='functions.zreo'"),
        1,
        "cannot find fn='functions.zreo'.*the name right",
    ),
    no_module_of_function=Mistake(
        init("type='Apply', fn='no_such_module.zero'"),
        1,
        "cannot find fn='no_such_module.zero'.*PYTHONPATH",
    ),
    no_function_at_all=Mistake(
        init("type='Apply', fn='functions.NUMBER'"), 1, 'needs a function'
    ),
    function_raises=Mistake(
        init("type='Apply', fn='functions.fail'"),
        1,
        'rule 0 .*RuntimeError: no such luck',
    ),
    function_writes_nothing=Mistake(
        init("type='Apply', fn='functions.nothing'"),
        1,
        'initialises nothing: it wrote none',
    ),
    function_writes_outside=Mistake(
        init("type='Apply', fn='functions.outside'", "'neck.adapter'")
        + "custom_imports = dict(imports=['functions'])\n"
        "model = dict(type='KnownModel')\n",
        1,
        'would also write head.bias, outside of what the path names',
    ),
    function_replaces=Mistake(
        init("type='Apply', fn='functions.replace'"),
        1,
        'replaced .*by another.*write in place',
    ),
    no_source=Mistake(
        rule("'backbone.layer1.1'", '', "copy_from='backbone.layer1.2'"),
        1,
        "matches 'backbone.layer1.2'; the nearest that do exist",
    ),
    source_of_other_shape=Mistake(
        rule("'head'", '', "copy_from='backbone.stem', overwrite=True"),
        1,
        r'shapes differ.*head.weight \(3, 8\)',
    ),
    source_of_other_names=Mistake(
        rule("'neck.adapter'", '', "copy_from='head'"),
        1,
        'head has none of the new tensors',
    ),
    source_with_wildcard=Mistake(
        rule("'neck'", '', "copy_from='backbone.*'"), 1, 'has the wildcards'
    ),
)

# Weights and what else a config names.
FILES = dict(
    load_from_nowhere=Mistake(
        f"{NO_RULE}load_from = 'x.pth'\n",
        2,
        "load_from='x.pth'.*x.pth can not be found.*--no-weights",
        'x.pth can not be found',
    ),
    pretrained_nowhere=Mistake(
        NO_RULE + BACKBONE.format(f'dict({LOADS.format("y.pth")})'),
        2,
        "init_cfg.checkpoint='y.pth'.*y.pth can not be found",
        'y.pth can not be found',
    ),
    no_checkpoint=Mistake(
        NO_RULE + "load_from = 'text.pth'\n",
        2,
        "load_from='text.pth'.* is no checkpoint",
        'Unpickling|pickle|invalid|magic|corrupt',
    ),
    rule_of_no_file=Mistake(
        init(LOADS.format('z.pth')), 1, "there is no checkpoint file 'z.pth'"
    ),
    prefix_that_fits_nothing=Mistake(
        init(LOADS.format('weights.pth') + ", prefix='bakbone'", "'backbone'"),
        1,
        'rule 0 .*bakbone. is not in the pretrained model',
    ),
    adapted_that_cannot_fit=Mistake(
        init(
            "type='AdaptedPretrained', checkpoint='other.pth'",
            "'head'",
        ).replace("'head',", "'head', overwrite=True,"),
        1,
        r'rule 0 .*other.pth does not fit Linear: weight has the shape',
    ),
    channels_unknown=Mistake(
        init(
            "type='AdaptedPretrained', checkpoint='other.pth', channels='sum'",
            "'head'",
        ),
        1,
        "`channels` is 'repeat', 'mean', 'zero'.*not 'sum'",
    ),
    model_misspelt=Mistake(
        f"{NO_RULE}model = dict(type='ToyModle')\n",
        2,
        'the model cannot be built.*ToyModle',
        'ToyModle',
    ),
    model_with_unknown_key=Mistake(
        f"{NO_RULE}model = dict(type='ToyModel', nwe=True)\n",
        2,
        "the model cannot be built.*'nwe'",
        "'nwe'",
    ),
    model_that_raises=Mistake(
        NO_RULE + BACKBONE.format("dict(type='Zzz')"),
        2,
        'Zzz',
    ),
    import_nowhere=Mistake(
        "custom_imports = dict(imports=['toy', 'no_such_module'], "
        'allow_failed_imports=False)\n',
        2,
        "No module named 'no_such_module'.*PYTHONPATH",
        'no_such_module',
    ),
    imports_misspelt=Mistake(
        "custom_imports = dict(import_=['toy'])\n",
        2,
        "`custom_imports` is dict.*not .*did you mean 'imports'",
        "'import_'",
    ),
    imports_as_list=Mistake(
        "custom_imports = ['toy']\n",
        2,
        r"`custom_imports` is dict\(imports=\[...\].*not \['toy'\]",
        'mapping, not list',
    ),
    syntax=Mistake('model = dict(\n', 2, 'cannot be read.*', 'syntax|closed'),
    base_nowhere=Mistake(
        "_base_ = ['none.py']\n", 2, 'cannot be read.*none.py', 'none.py'
    ),
    base_imports_replaced=Mistake(
        "custom_imports = dict(imports=['mmpartinit'])\n"
        "model = dict(type='LateModel')\n",
        2,
        'the model cannot be built.*LateModel.*`custom_imports` replaces that '
        r"of the base config, and late will not be imported.*\['late', 'mmpa",
        'LateModel',
        base="custom_imports = dict(imports=['late'])\n",
    ),
    resume_that_lacks_the_block=Mistake(
        rule() + "resume = True\nload_from = 'epoch_1.pth'\n",
        0,
        r'warning \[not-resumed\] rule 0 .*lacks.*load_from in place of',
        '',
    ),
    resume_from_nowhere=Mistake(
        NO_RULE + "resume = True\nload_from = 'x.pth'\n",
        2,
        'x.pth can not be found',
    ),
)

# What is right, or may be.
RIGHT = dict(
    nothing='',
    no_rule=NO_RULE,
    one_rule=rule(),
    tuple_of_hooks=f'{rule()}custom_hooks = tuple(custom_hooks)\n',
    several_paths=rule("['backbone.**.se', 'neck.adapter']"),
    braces_and_list=rule("'backbone.layer{1,2}.[01].se'"),
    list_of_init_cfg=rule(init_cfg=f'[{ZERO}]'),
    optional=rule("'neck/adapter'", keys='optional=True'),
    overwrite=rule("'head'", keys='overwrite=True'),
    copy=rule("'backbone.layer1.1'", '', "copy_from='backbone.layer1.0'"),
    apply=init("type='Apply', fn='functions.zero'"),
    init_weights=init("type='InitWeights'", "'neck.adapter'"),
    pretrained=init(
        LOADS.format('weights.pth') + ", prefix='backbone.'", "'backbone'"
    ),
    two_hooks=f'{rule()}custom_hooks = custom_hooks * 2\n',
    priority=hook("modules=[], priority='LOW', seed=3, report=False"),
    fresh_resume=f'{rule()}resume = True\nload_from = None\n',
    other_hook=BASE_HOOK + "custom_hooks += [dict(type='Witness')]\n",
    imports_beside=IMPORTS.replace("['toy']", "['toy', 'mmpartinit']"),
    at_the_end=rule(SE, ZERO, 'overwrite=False'),
)
