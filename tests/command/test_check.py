"""`mmpartinit check` with a base: what departs, from where on, and why."""

import json

import pytest
import torch
from nets import NETS, Net, weights

from mmpartinit.trial.drift import PartDrift
from mmpartinit.trial.rows import to_rows

ZERO = dict(path='layers.*.new.up', init_cfg=dict(type='Constant', val=0.0))
OPEN = dict(
    path='layers.*.new.fc2', init_cfg=dict(type='Constant', val=0.0, bias=4.0)
)
DRAWN = dict(path='layers.*.new.up', init_cfg=dict(type='Normal', std=0.5))
SAME = 'The network computes what the pretrained one does:'
DEPARTS = 'The network departs from the pretrained one:'


@pytest.fixture
def check(tmp_path, command):
    """Write a base with weights, and a config beside it; check that."""
    weights(tmp_path / 'net.pth')

    def run(new, *rules, words=(), base='', text=''):
        start = f"{NETS}load_from = 'net.pth'\n"
        base_model = "model = dict(type='Net')\n"
        if base is not None:
            (tmp_path / 'base.py').write_text(start + base_model + base)
            words = ['--base', 'base.py', *words]
        model = f"model = dict(type='Net', new={new!r})\n"
        if rules:
            hook = dict(type='CustomModuleInitHook', modules=list(rules))
            model += f'custom_hooks = [{hook!r}]\n'
        (tmp_path / 'config.py').write_text(start + model + text)
        done = command('check', 'config.py', *words, cwd=tmp_path)
        assert 'Traceback' not in done.stderr
        done.lines = done.stdout.splitlines()
        done.prose = ' '.join(done.stdout.split())
        return done

    return run


def cells(done, part):
    """What the table has in the row of a part."""
    (line,) = [x for x in done.lines if x.split()[:1] == part.split()[:1]]
    return line


def test_a_block_that_starts_as_nothing_changes_nothing(check):
    done = check('adapter', ZERO)
    assert done.returncode == 0, done.stdout
    assert f'{SAME} each part gives the same; its output differs by 0 %' in (
        done.prose
    )
    assert 'departs' not in done.stdout
    # and the table says what it would be
    row = cells(done, 'layers.1.conv1').split()
    assert row[1:4] == ['0', '%', '0.1'] and float(row[5]) > 1
    assert "(2, 1, 128, 128) (mode='tensor'): 8 parts compared" in done.prose


@pytest.mark.parametrize('rules', [(), (DRAWN,)], ids=['no hook', 'drawn'])
def test_the_first_part_behind_a_new_block_is_the_one_marked(check, rules):
    done = check('adapter', *rules)
    assert done.returncode == 1
    (marked,) = [x for x in done.lines if x.endswith('← departs first')]
    assert marked.split()[0] == 'layers.1.conv1'
    assert f'{DEPARTS} layers.1.conv1 (behind layers.0.new, new) is the' in (
        done.prose
    )
    assert ('without rules' in done.stdout) == bool(rules)
    # in the order of computation, which is not that of the model
    shown = [x.split()[0] for x in done.lines if x.startswith(' layers')]
    inner = ('conv1', 'conv2', 'bn2')
    assert shown == [f'layers.{i}.{name}' for i in (0, 1) for name in inner]


def test_a_gate_takes_its_few_per_cent(check):
    done = check('gate', OPEN)
    assert done.returncode == 0, done.stdout
    assert 'no part is further from it than allowed' in done.prose
    done = check('gate', OPEN, words=['--tolerance', '0.1'])
    assert done.returncode == 1
    assert 'where 0.1 % is allowed' in done.prose
    done = check('gate', words=['--tolerance', '5'])
    assert done.returncode == 1


def test_a_block_that_may_change_much_has_to_learn_too(check):
    done = check('gate', words=['--tolerance', '90'], base=None)
    (row,) = [x for x in done.lines if ' 90 % ' in x]
    *_, learning, _, number = row.split()
    assert int(learning) < int(number) == 8
    assert 'no gradient reaches layers.0.new.' in done.prose
    assert done.returncode == 1


def test_an_index_that_is_shifted_is_said_as_that(check):
    done = check('between')
    assert done.returncode == 1
    assert DEPARTS not in done.prose
    assert 'weights of the base are missing in it' in done.prose
    assert (
        '8 weights of the base were not loaded: layers.1 is layers.2 the'
        in (done.prose)
    )
    assert 'layers.1.conv*.{bias,weight} (4)' in done.prose


def test_a_shifted_block_that_is_loaded_by_its_values_is_the_same(
    check, tmp_path
):
    state = torch.load(tmp_path / 'net.pth')['state_dict']
    moved = {k.replace('layers.1', 'layers.2'): v for k, v in state.items()}
    torch.save(moved, tmp_path / 'moved.pth')
    zero = dict(ZERO, path='layers.1.up')
    done = check('between', zero, text="load_from = 'moved.pth'\n")
    assert done.returncode == 0, done.stdout
    assert 'layers.2.conv1' in done.stdout
    assert 'not loaded' not in done.stdout
    done = check('between', text="load_from = 'moved.pth'\n")
    assert 'layers.2.conv1 (behind layers.1, new) is the first' in done.prose


def test_other_weights_are_a_drift_from_the_start(check, tmp_path):
    weights(tmp_path / 'other.pth', seed=2)
    done = check(None, text="load_from = 'other.pth'\n")
    assert done.returncode == 1
    assert f'{DEPARTS} stem is the first part to do so' in done.prose


def test_what_no_weights_decide_is_the_same_in_both(check, tmp_path):
    """A head that each of the networks draws."""
    weights(tmp_path / 'net.pth', without=['head'])
    done = check('adapter', ZERO)
    assert done.returncode == 0, done.stdout
    assert 'head' not in done.stdout
    head = dict(path='head', init_cfg=dict(type='Normal', std=0.3))
    done = check('adapter', ZERO, head)
    assert done.returncode == 0, done.stdout
    assert 'its output differs by 0 %' in done.prose
    done = check('adapter')
    assert done.returncode == 1


def test_a_head_for_other_classes_is_no_drift(check):
    text = 'model.update(classes=5)\n'
    done = check('adapter', ZERO, text=text)
    assert done.returncode == 0, done.stdout
    assert '2 weights of the base were not loaded' in done.prose
    assert 'head.{bias,weight} (2)' in done.prose
    assert 'its output cannot be compared, since the shapes' in done.prose


def test_what_hangs_on_a_choice_is_not_judged(check, tmp_path):
    """A gate changes little, but not which places are the best."""
    text = 'model.update(best=True)\n'
    words = ['--tolerance', '8']
    done = check('gate', OPEN, words=words, text=text, base=text)
    assert done.returncode == 0, done.stdout
    assert cells(done, 'head').endswith('not judged')
    assert 'its output cannot be judged' in done.prose
    assert '2 are not judged, since in the pretrained network' in done.prose
    # while a drift that begins there is no such thing
    weights(tmp_path / 'other.pth', seed=2)
    text += "load_from = 'other.pth'\n"
    done = check(None, words=words, text=text, base='model.update(best=True)')
    assert done.returncode == 1


def test_all_parts_are_in_the_json(check, tmp_path):
    words = ['--json', 'drift.json', '--figure', 'drift.png']
    done = check('adapter', DRAWN, words=words)
    assert done.returncode == 1
    found = json.loads((tmp_path / 'drift.json').read_text())
    assert found['config'] == 'config.py' and found['base'] == 'base.py'
    assert (found['way'], found['shape']) == (
        "mode='tensor'",
        [2, 1, 128, 128],
    )
    assert found['same'] is False and found['first'] == 'layers.1.conv1'
    assert found['behind'] == ['layers.0.new']
    parts = {part['path']: part for part in found['parts']}
    assert list(parts)[-1] == 'head' and len(parts) == 8
    # the head sees two sizes, one after the other
    calls = parts['head']['calls']
    assert len(calls) == 2 and parts['head']['drift'] == max(calls)
    assert calls[0] != calls[1] > 0.001
    assert parts['stem']['calls'] == [0.0]
    assert parts['layers.1.bn2']['without_rules'] > 0
    assert found['output']['departs'] is True
    assert (tmp_path / 'drift.png').read_bytes().startswith(b'\x89PNG')


def test_the_numbers_are_those_of_the_two_networks(check, tmp_path):
    """Worked out by hand, on the batch that --data takes."""
    loader = dict(
        batch_size=8,
        num_workers=2,
        persistent_workers=True,
        collate_fn=dict(type='default_collate'),
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(type='Ones'),
    )
    text = f'train_dataloader = {loader!r}\n'
    words = ['--data', '--json', 'drift.json']
    zero = dict(path='layers.*.new.fc2', init_cfg=dict(type='Constant', val=0))
    done = check('gate', zero, words=words, text=text)
    assert '(2, 1, 16, 24)' in done.prose, done.stderr
    found = json.loads((tmp_path / 'drift.json').read_text())
    base, ours = Net().eval(), Net('gate').eval()
    for net in (base, ours):
        state = torch.load(tmp_path / 'net.pth')['state_dict']
        net.load_state_dict(state, strict=False)
    for layer in ours.layers:
        torch.nn.init.zeros_(layer.new.fc2.weight)
        torch.nn.init.zeros_(layer.new.fc2.bias)
    images = torch.ones(2, 1, 16, 24) * torch.tensor([1.0, 2.0]).view(
        2, 1, 1, 1
    )
    seen = []
    for net in (ours, base):
        # What comes next writes to it.
        net.layers[1].conv1.register_forward_hook(
            lambda module, x, y: seen.append(y.double())
        )
    with torch.no_grad():
        seen += [net(images)[1].double() for net in (ours, base)]
    parts = {part['path']: part['calls'] for part in found['parts']}
    for (a, b), drift in zip(
        ((seen[0], seen[1]), (seen[2], seen[3])),
        (parts['layers.1.conv1'][0], parts['head'][1]),
    ):
        expected = ((a - b).norm() / b.norm()).item()
        assert drift == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    'change, reason',
    [
        (dict(text='load_from = None\n'), 'config.py loads no weights'),
        (dict(base='load_from = None\n'), 'base.py loads no weights'),
        (dict(words=['--no-weights']), 'nothing is loaded with --no-weights'),
        (dict(words=['--data']), 'no `train_dataloader`'),
        (
            dict(base="load_from = 'no.pth'\n"),
            "cannot load the weights of load_from='no.pth'",
        ),
        (dict(base='model.update(kind=1)\n'), 'the model cannot be built'),
        (dict(words=['--figure', 'no/such.png']), 'No such file'),
    ],
)
def test_what_cannot_be_checked_says_why(check, change, reason):
    done = check('adapter', ZERO, **change)
    assert done.returncode == 2, done.stdout
    assert not done.stdout
    assert done.stderr.startswith('mmpartinit: ') and reason in done.stderr


def test_a_plan_with_errors_is_not_checked(check):
    wrong = dict(path='layers.*.nwe', init_cfg=dict(type='Kaiming'))
    done = check('adapter', wrong)
    assert done.returncode == 2
    assert "did you mean 'layers.0.new'" in done.stderr or (
        'layers.*.nwe' in done.stderr
    )


def test_networks_that_take_other_inputs_are_not_compared(check):
    """As where a second input was put in beside the image."""
    text = "model = dict(type='ToyModel')\ncustom_imports['imports'] = ['toy']"
    done = check('adapter', base=text)
    assert done.returncode == 2


def test_it_is_the_same_each_time_and_fits_the_terminal(check, monkeypatch):
    torch.manual_seed(1)
    first = check('gate', OPEN)
    torch.manual_seed(2)
    second = check('gate', OPEN)
    assert first.stdout == second.stdout
    monkeypatch.setenv('COLUMNS', '60')
    assert max(map(len, check('gate', OPEN).lines)) <= 60
    monkeypatch.setenv('COLUMNS', '200')
    assert 100 < max(map(len, check('between').lines)) <= 160


def test_rows_are_few_and_split_blocks_alike():
    names = [
        f'layer{i}.{j}.conv{k}'
        for i in (1, 2)
        for j in (0, 1, 2)
        for k in range(6)
    ]
    parts = [PartDrift(name, name, [0.1]) for name in ['stem', *names]]
    rows = to_rows(parts, 30)
    blocks = [f'layer{i}.{j}' for i in (1, 2) for j in (0, 1, 2)]
    assert [row.label for row in rows] == ['stem', *blocks]
    assert sum(len(row.parts) for row in rows) == len(parts)
    assert [row.label for row in to_rows(parts, 4)] == [
        'stem',
        'layer1',
        'layer2',
    ]
    assert len(to_rows(parts[:20], 30)) == 20
    assert to_rows([], 30) == []
