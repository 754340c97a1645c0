"""The second start on several processes: ranks agree, and tell the truth."""

import functools
import http.server
import importlib.util
import threading

import pytest
import ways_changed
import ways_modules
import ways_whole
import ways_without
from engines import RULES, launch, results
from mmengine.utils import digit_version
from stacks import TORCH
from toy import pretrained
from ways import KEPT, WAYS, expected, truth, write_files

# Importing them makes them known.
FILES = (ways_whole, ways_modules, ways_changed, ways_without)


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder with a checkpoint, and the address that it is served at."""
    folder = tmp_path / 'served'
    folder.mkdir()
    state = pretrained(folder / 'weights.pth')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    monkeypatch.setenv('no_proxy', 'localhost')
    handler = functools.partial(
        http.server.SimpleHTTPRequestHandler, directory=str(folder)
    )
    with http.server.ThreadingHTTPServer(('localhost', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f'http://localhost:{server.server_address[1]}'
        yield folder, address, state
        server.shutdown()


@pytest.mark.parametrize('engine', ['ddp', 'flexible_ddp', 'fsdp_orig'])
def test_ranks_that_load_themselves_agree(engine, served, tmp_path):
    """From an address, mmengine has the ranks wait for each other."""
    folder, address, state = served
    model = dict(type='Loads', path=f'{address}/weights.pth')
    local = dict(type='Loads', path=str(folder / 'weights.pth'))
    done = launch(
        engine,
        2,
        tmp_path / 'runs',
        plain=dict(model=model),
        rank0=dict(model=dict(local, fails_on=0)),
        rank1=dict(model=dict(local, fails_on=1)),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for run in ('plain', 'rank0', 'rank1'):
        zero, one = results(tmp_path / 'runs', 2, run)
        assert 'error' not in zero, zero['error']
        report = zero['report']
        assert one['report'] == report
        found = {t['name']: t for t in report['tensors']}
        kept = {n for n, t in found.items() if t['origin'] == 'file'}
        # The last of the rules is there to write one over.
        stem = {'backbone.stem.weight', 'backbone.stem.bias'}
        assert kept == state.keys() - stem
        if run == 'plain':
            assert report['known_by'].startswith(
                'recorded loads and a second start ('
            )
            head = found['head.weight']
            assert head['key'] == 'head.weight'
            assert 'weights' in head['file']
        else:
            assert report['known_by'] == (
                'recorded loads only: the model cannot be built again '
                '(RuntimeError: not on this rank)'
            )
    assert len(RULES) == len(report['rules'])


def can_be(made):
    has = not made.needs or importlib.util.find_spec(made.needs)
    return has and digit_version(made.since) <= TORCH


def test_all_ways_on_two_ranks(tmp_path):
    """Each model wrapped by DDP and by FSDP: origins are true, and nothing
    that was put in is lost.
    """
    one = write_files(tmp_path / 'one', 5)
    other = write_files(tmp_path / 'other', 7)
    names = [name for name, made in WAYS.items() if can_be(made)]
    runs = {
        wrap: dict(path=one, names=names, wrap=wrap)
        for wrap in ('ddp', 'fsdp')
    }
    done = launch('ways', 2, tmp_path / 'runs', **runs)
    assert done.returncode == 0, done.stderr[-3000:]
    facts = {name: truth(name, one, other) for name in names}
    for wrap in runs:
        zero, second = results(tmp_path / 'runs', 2, wrap)
        assert second == zero
        refused = [name for name in names if isinstance(zero[name], str)]
        # Other dtypes and ScriptModules under FSDP, SyncBN on a CPU.
        assert len(refused) <= 3, {name: zero[name] for name in refused}
        for name in zero.keys() - set(refused):
            assert 'a second start (' in zero[name]['by'], name
            for key, says in expected(name, facts[name]).items():
                said = zero[name]['origins'][key]
                if set(says) <= set(KEPT):
                    assert said in says, (wrap, name, key, said)
                    assert key not in zero[name]['changed'], (wrap, name, key)
                elif says == ('built',):
                    assert said in ('rule', 'built'), (wrap, name, key, said)
