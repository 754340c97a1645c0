"""Which parts of a model a figure has as rows."""

import pytest

from mmpartinit.report.records import RuleRecord, TensorRecord
from mmpartinit.report.rows import choose_rows, with_own_start


def record(name, origin='file', rule=None):
    return TensorRecord(name, [8, 8], 'float32', origin, rule, 0.0, 0.1)


def written(name, rule=0):
    return record(name, 'rule', rule)


def rows_of(tensors):
    """Labels of rows with how many tensors they have; what holds of all."""
    rows = choose_rows(tensors)
    assert len(rows) <= 12
    assert len({row.label for row in rows}) == len(rows)
    names = [tensor.name for row in rows for tensor in row.tensors]
    assert sorted(names) == sorted(tensor.name for tensor in tensors)
    return {row.label: len(row.tensors) for row in rows}


def block(path, new=4, old=12):
    """A pretrained block with a new part in it."""
    return [
        *(record(f'{path}.conv{i}.weight') for i in range(old)),
        *(written(f'{path}.se.fc{i}.weight', i % 2) for i in range(new)),
    ]


def resnet(depths=(3, 4, 6, 3)):
    """A detector whose last three stages have new parts."""
    tensors = [record('backbone.conv1.weight'), record('backbone.bn1.weight')]
    for stage, depth in enumerate(depths, 1):
        for i in range(depth):
            new = 4 if stage > 1 else 0
            tensors += block(f'backbone.layer{stage}.{i}', new)
    for part in ('neck', 'rpn_head', 'roi_head'):
        tensors += [record(f'{part}.{i}.weight', 'built') for i in range(6)]
    return tensors


def swin_dino(others='built'):
    """A detector of which rules wrote adapters in the backbone only, with a
    dozen other parts, many of them a single tensor.
    """
    tensors = [record('level_embed', others)]
    tensors += [record(f'backbone.patch_embed.{i}.weight') for i in range(4)]
    for stage, depth in enumerate((2, 2, 18, 2)):
        path = f'backbone.stages.{stage}'
        for i in range(depth):
            tensors += block(f'{path}.blocks.{i}', new=10, old=14)
        tensors += [record(f'{path}.downsample.{i}.weight') for i in range(3)]
    for part in ('encoder', 'decoder', 'neck', 'bbox_head'):
        tensors += [record(f'{part}.{i}.weight', others) for i in range(60)]
    names = 'query_embedding', 'memory_trans_fc', 'memory_trans_norm', 'dn'
    return tensors + [record(f'{name}.weight', others) for name in names]


def test_rows_go_where_rules_write():
    assert rows_of(resnet()) == {
        'backbone (rest)': 2 + 3 * 12,
        **{f'backbone.layer2.{i}–{i + 1}': 32 for i in (0, 2)},
        **{f'backbone.layer3.{i}–{i + 1}': 32 for i in (0, 2, 4)},
        'backbone.layer4.0–1': 32,
        'backbone.layer4.2': 16,
        'neck, rpn_head, roi_head': 18,
    }
    # Few blocks have a row each, in whatever small model.
    assert rows_of(resnet((1, 2, 2, 1))) == {
        'backbone (rest)': 14,
        'backbone.layer2.0': 16,
        'backbone.layer2.1': 16,
        'backbone.layer3.0': 16,
        'backbone.layer3.1': 16,
        'backbone.layer4': 16,
        'neck, rpn_head, roi_head': 18,
    }


def test_a_backbone_is_no_single_row_beside_nine_of_one_tensor():
    found = rows_of(swin_dino())
    assert list(found)[0] == 'backbone (rest)'
    assert list(found)[-1] == 'encoder, decoder, neck and 6 more'
    assert [name for name in found if 'blocks' in name] == [
        f'backbone.stages.2.blocks.{i}–{i + 2}' for i in range(0, 18, 3)
    ]
    assert {f'backbone.stages.{i}' for i in (0, 1, 3)} <= set(found)
    assert min(found.values()) > 5
    # What was loaded and is not written has three rows at most.
    found = rows_of(swin_dino('file'))
    others = [name for name in found if not name.startswith('backbone')]
    assert len(others) == 3 and sum('stages' in name for name in found) == 7
    # With rules or all alike, small parts do not take the rows either.
    for others in ('rule', 'built'):
        tensors = swin_dino(others)
        if others == 'built':
            for tensor in tensors:
                tensor.origin = 'file'
        found = rows_of(tensors)
        assert sum(count == 1 for count in found.values()) <= 2
        assert sum('stages' in name for name in found) >= 3


@pytest.mark.parametrize('blocks', [3, 111, 1112])
def test_new_and_loaded_tensors_of_a_block_share_a_row(blocks):
    tensors = [t for i in range(blocks) for t in block(f'backbone.layers.{i}')]
    rows = choose_rows([*tensors, record('head.weight')])
    assert min(blocks + 1, 10) <= len(rows) <= 12
    for row in rows[:-1]:
        new = sum(tensor.origin == 'rule' for tensor in row.tensors)
        assert 0 < new * 4 == len(row.tensors)


def test_a_single_written_block_is_found():
    tensors = resnet()
    for tensor in tensors:
        if tensor.origin == 'rule' and 'layer4.2' not in tensor.name:
            tensor.origin, tensor.rule = 'file', None
    found = rows_of(tensors)
    assert list(found) == [
        'backbone (rest)',
        'backbone.layer4.2',
        'neck, rpn_head, roi_head',
    ]


def test_without_rules_rows_go_where_new_parts_are():
    tensors = resnet()
    with_rules = rows_of(tensors)
    for tensor in tensors:
        if tensor.origin == 'rule':
            tensor.origin, tensor.rule = 'built', None
    assert rows_of(tensors) == with_rules


def test_what_was_put_in_counts_as_loaded_but_a_formula_does_not():
    tensors = resnet()
    with_files = rows_of(tensors)
    for tensor in tensors:
        if tensor.origin == 'file':
            tensor.origin = 'code'
    tensors.append(record('neck.sampling_offsets.bias', 'code'))
    assert list(rows_of(tensors)) == list(with_files)


@pytest.mark.parametrize(
    'names, labels',
    [
        (['head.weight', 'head.bias'], ['head']),
        (['weight', 'bias', 'a.weight'], ['weight', 'bias', 'a']),
        (['a', 'a.b', 'a.b.c'], ['a', 'a.b']),
        (['model.a.x.weight', 'model.b.x.weight'], ['model.a', 'model.b']),
        ([], []),
    ],
)
def test_labels(names, labels):
    assert list(rows_of([record(name) for name in names])) == labels


@pytest.mark.parametrize(
    'names',
    [
        [f'p{i}' for i in range(100)],
        [f'{chr(97 + i)}.weight' for i in range(26)],
        [f'm.prompts.{i}' for i in range(400)],
        ['.'.join('a' * 200) + f'.{i}.weight' for i in range(40)],
        ['', '.', '..', 'a..b', '...a'],
    ],
)
def test_models_of_other_forms(names):
    rows_of([written(name) for name in names])
    tensors = [record(name) for name in names]
    for tensor in tensors[::2]:
        tensor.origin = 'rule'
    rows_of(tensors)


def test_statistics_follow_a_new_norm_that_a_rule_covers():
    def norm(path, origin, statistics='built'):
        leaves = dict.fromkeys(('weight', 'bias'), origin)
        leaves.update(
            running_mean=statistics,
            running_var=statistics,
            num_batches_tracked=statistics,
        )
        return [record(f'{path}.{leaf}', o) for leaf, o in leaves.items()]

    def kept(tensors, *matched):
        rules = [RuleRecord(0, ['x'], [], matched=list(matched))]
        shown = with_own_start(tensors, rules)
        return [tensor.name.rpartition('.')[2] for tensor in shown]

    own = ['weight', 'bias']
    both = [*own, 'running_mean', 'running_var']
    assert kept(norm('se.bn', 'rule'), 'se') == own
    assert kept(norm('se.bn', 'rule'), 'se.bn') == own
    assert kept(norm('se.bn', 'rule'), '') == own
    # It has a rule, whose init_cfg does not write it.
    assert kept(norm('se.bn', 'built'), 'se') == own
    # No rule names it.
    assert kept(norm('se.bn', 'built')) == both
    assert kept(norm('se.bn', 'built'), 's', 'se.b') == both
    # What is missing beside a loaded weight, and what a rule copied, is there.
    assert kept(norm('se.bn', 'file'), 'se') == both
    assert kept(norm('se.bn', 'rule', 'rule'), 'se') == both
