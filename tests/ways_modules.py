"""Ways that put loaded modules where they are wanted: copied, moved, tied."""

import copy

import torch
import torch.nn as nn
from mmengine.model import (
    BaseModule,
    ExponentialMovingAverage,
    ModuleDict,
    MomentumAnnealingEMA,
    convert_sync_batchnorm,
    revert_sync_batchnorm,
)
from ways import Net, loader, read, way

BUILDING = ('constructor', 'init_weights')


# --- whole modules


@way()
def pickled(path):
    return torch.load(f'{path}/whole.pt', weights_only=False)


@way()
def part_of_a_pickled(path):
    net = Net()
    net.body = torch.load(f'{path}/whole.pt', weights_only=False).body
    return net


@way()
def embedding(path):
    net = Net()
    table = read(path)['table.weight']
    net.table = nn.Embedding.from_pretrained(table, freeze=False)
    return net


def two(path):
    """A student that is loaded, a teacher that is not."""
    pair = ModuleDict({'student': Net(), 'teacher': Net()})
    pair['student'].load_state_dict(read(path))
    return pair


@way()
def deep_copy(path):
    student = Net()
    student.load_state_dict(read(path))
    student.extra = nn.Linear(4, 4)
    return ModuleDict(dict(a=student, b=copy.deepcopy(student)))


@way()
def teacher_by_state_dict(path):
    pair = two(path)
    pair['teacher'].load_state_dict(pair['student'].state_dict())
    return pair


@way()
def teacher_by_parameters(path):
    pair = two(path)
    for ours, theirs in zip(*(net.parameters() for net in pair.values())):
        theirs.data.copy_(ours.data)
        theirs.requires_grad = False
    return pair


@way()
def averaged(path):
    student = two(path)['student']
    ema = ExponentialMovingAverage(student, update_buffers=True)
    annealed = MomentumAnnealingEMA(student)
    ema.update_parameters(student)
    return nn.ModuleList([student, ema, annealed])


@way()
def moved_to_another_attribute(path):
    net = two(path)['student']
    net.classifier, net.head = net.head, nn.Identity()
    return net


@way()
def wrapped_after_loading(path):
    net = two(path)['student']
    net.body = nn.Sequential(nn.Dropout(), net.body, nn.Linear(6, 6))
    return net


@way()
def exchanged(path):
    pair = two(path)
    one, other = pair['student'].body, pair['teacher'].body
    one.weight, other.weight = other.weight, one.weight
    return pair


@way()
def synchronised_norms(path):
    net = two(path)['student']
    return convert_sync_batchnorm(net)


@way()
def synchronised_and_back(path):
    net = two(path)['student']
    return revert_sync_batchnorm(nn.SyncBatchNorm.convert_sync_batchnorm(net))


@way()
def half_and_back(path):
    return two(path)['student'].half().float()


@way()
def kept_in_double(path):
    return two(path)['student'].double()


@way(since='2.1')
def by_weight_norm(path):
    net = two(path)['student']
    nn.utils.parametrizations.weight_norm(net.body)
    return net


@way('file')
def scripted(path):
    net = torch.jit.script(nn.Sequential(nn.Linear(4, 6)))
    state = {k[5:]: v for k, v in read(path).items() if k[:4] == 'body'}
    net.load_state_dict({f'0.{k}': v for k, v in state.items()})
    return net


# --- tied and shared


@loader(*BUILDING, says='file')
def one_name_of_tied_weights(net, path):
    net.tied = nn.Linear(4, 7)
    net.tied.weight = net.table.weight
    net.load_state_dict(read(path), strict=False)


@loader('constructor')
def tied_by_hand(net, path):
    net.tied = nn.Linear(4, 7)
    net.tied.weight = net.table.weight
    net.tied.weight.data.copy_(read(path)['table.weight'])


@loader('constructor', says='file')
def shared_module(net, path):
    net.again = net.body
    net.load_state_dict(read(path), strict=False)


@way('file', built=('net.other.running_mean', 'net.other.running_var'))
def norms_that_share_their_affine_part(path):
    net = Net()
    net.other = nn.BatchNorm2d(4)
    net.other.weight, net.other.bias = net.norm.weight, net.norm.bias
    net.load_state_dict(read(path), strict=False)
    return net


# --- what is no layer's weight


class Bare(BaseModule):
    """Parameters and buffers of its own."""

    def __init__(self):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(6))
        self.layers = nn.ParameterList([torch.randn(4, 4) for _ in range(3)])
        self.named = nn.ParameterDict({'q': torch.randn(4, 4)})
        self.register_buffer('anchors', torch.zeros(3, 4))


@loader(*BUILDING, net=Bare)
def bare_parameters(net, path):
    more = read(path, 'more')
    net.gamma.data.copy_(more['gamma'])
    net.named['q'].data.copy_(more['q'])
    for parameter, tensor in zip(net.layers, more['layers']):
        parameter.data[:] = tensor


@loader('constructor', net=Bare, says='file')
def bare_by_state_dict(net, path):
    more = read(path, 'more')
    state = {k: more[k] for k in ('gamma', 'anchors')}
    state.update({f'layers.{i}': v for i, v in enumerate(more['layers'])})
    net.load_state_dict(state, strict=False)


@way()
def buffer_alone(path):
    net = Bare()
    net.register_buffer('anchors', read(path, 'more')['anchors'])
    return net


@loader('init_weights')
def statistics_alone(net, path):
    state = read(path)
    net.norm.running_mean.copy_(state['norm.running_mean'])
    net.norm.running_var = state['norm.running_var']
    for parameter in net.norm.parameters():
        parameter.requires_grad = False
