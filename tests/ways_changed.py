"""Ways that put in a part of a file's tensors, or what was made of them."""

import torch
import torch.nn as nn
from mmengine.model import BaseModule
from mmengine.runner import load_checkpoint
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval
from ways import Net, loader, read, way

BUILDING = ('constructor', 'init_weights')


# --- in part: the rest is drawn


@way()
def three_of_four_channels(path):
    stem = nn.Conv2d(4, 4, 3)
    stem.weight.data[:, :3] = read(path)['stem.weight']
    return stem


@loader(*BUILDING, net=lambda: nn.Linear(6, 9))
def rows_of_some_classes(net, path):
    state = read(path)
    net.weight.data[:5] = state['head.weight']
    net.bias.data[:5] = state['head.bias']


@way()
def rows_of_some_words(path):
    table = nn.Embedding(9, 4)
    with torch.no_grad():
        for new, old in enumerate([3, 1, 6, 0]):
            table.weight[new] = read(path)['table.weight'][old]
    return table


@way()
def middle_of_a_larger_kernel(path):
    stem = nn.Conv2d(3, 4, 5)
    stem.weight.data[..., 1:4, 1:4] = read(path)['stem.weight']
    return stem


@loader('init_weights', net=lambda: nn.Linear(4, 8))
def columns_and_rows(net, path):
    net.weight.data[:6, :2] = read(path)['body.weight'][:, :2]


@way()
def the_rest_is_zero(path):
    stem = nn.Conv2d(5, 4, 3)
    weight = read(path)['stem.weight']
    stem.weight = nn.Parameter(functional.pad(weight, (0, 0, 0, 0, 0, 2)))
    return stem


@way()
def the_rest_is_the_mean(path):
    head, old = nn.Linear(6, 8), read(path)['head.weight']
    head.weight.data.copy_(torch.cat([old, old.mean(0).expand(3, 6)]))
    return head


# --- another form


@loader(*BUILDING, net=lambda: nn.Conv3d(3, 4, 3))
def inflated(net, path):
    flat = read(path)['stem.weight']
    net.weight.data.copy_(flat.unsqueeze(2).expand_as(net.weight) / 3)
    net.bias.data.copy_(read(path)['stem.bias'])


@way()
def inflated_in_the_middle(path):
    conv = nn.Conv3d(3, 4, 3)
    weight = torch.zeros_like(conv.weight)
    weight[:, :, 1] = read(path)['stem.weight']
    conv.weight = nn.Parameter(weight)
    return conv


class Attention(BaseModule):
    """Queries, keys and values by layers of their own."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(4, 4) for _ in range(3))


@loader(*BUILDING, net=Attention)
def split(net, path):
    parts = read(path, 'more')['qkv'].chunk(3)
    for name, part in zip('qkv', parts):
        getattr(net, name).weight.data.copy_(part)


@way()
def joined(path):
    attention, more = nn.MultiheadAttention(4, 2), read(path, 'more')
    parts = torch.cat([more[name] for name in 'qkv'])
    attention.in_proj_weight = nn.Parameter(parts)
    return attention


class Positions(BaseModule):
    """An embedding of places, resized where a file has another size."""

    def __init__(self, resizes=True):
        super().__init__()
        self.grid = nn.Parameter(torch.zeros(1, 26, 4))
        nn.init.trunc_normal_(self.grid, std=0.02)
        if resizes:
            self._register_load_state_dict_pre_hook(self.resize)

    def resize(self, state, prefix, *args):
        state[f'{prefix}grid'] = larger(state[f'{prefix}grid'])


def larger(grid):
    rest = grid[:, 1:].reshape(1, 4, 4, 4).permute(0, 3, 1, 2)
    rest = functional.interpolate(rest, size=(5, 5), mode='bicubic')
    return torch.cat([grid[:, :1], rest.flatten(2).transpose(1, 2)], 1)


@loader(*BUILDING, net=Positions)
def resized_while_loading(net, path):
    net.load_state_dict({'grid': read(path, 'more')['grid']})


@loader('init_weights', net=lambda: Positions(False))
def resized_by_hand(net, path):
    net.grid.data.copy_(larger(read(path, 'more')['grid']))


@way()
def transposed(path):
    layer = nn.Linear(6, 4, bias=False)
    layer.weight.data = read(path)['body.weight'].t()
    return layer


@way()
def a_layer_as_a_convolution(path):
    conv, state = nn.Conv2d(4, 6, 1), read(path)
    conv.weight.data.copy_(state['body.weight'][:, :, None, None])
    conv.bias.data.copy_(state['body.bias'])
    return conv


@way()
def other_order_of_channels(path):
    net = Net()
    net.load_state_dict(read(path))
    net.stem.weight.data = net.stem.weight.data.flip(1)
    return net.stem


@way()
def one_channel_of_three(path):
    stem = nn.Conv2d(1, 4, 3)
    stem.weight.data.copy_(read(path)['stem.weight'].sum(1, keepdim=True))
    return stem


@way()
def pruned(path):
    layer, state = nn.Linear(4, 3), read(path)
    kept = state['body.weight'].abs().sum(1).topk(3).indices
    layer.weight.data.copy_(state['body.weight'][kept])
    layer.bias.data.copy_(state['body.bias'][kept])
    return layer


@way()
def one_for_many(path):
    layers = nn.ModuleList(nn.Linear(4, 6) for _ in range(3))
    for layer in layers:
        layer.weight.data.copy_(read(path)['body.weight'])
    return layers


# --- other values


@loader(*BUILDING, says='code', net=lambda: nn.Linear(4, 6))
def halved(net, path):
    file = f'{path}/state.pth'
    load_checkpoint(net, file, revise_keys=[('body.', '')], logger='silent')
    for parameter in net.parameters():
        parameter.data.mul_(0.5)


@way('code')
def low_rank(path):
    u, s, v = torch.linalg.svd(read(path)['body.weight'], full_matrices=False)
    pair = nn.Sequential(nn.Linear(4, 2, False), nn.Linear(2, 6, False))
    pair[0].weight.data.copy_(s[:2, None] * v[:2])
    pair[1].weight.data.copy_(u[:, :2])
    return pair


@way('code')
def mean_of_two_files(path):
    net, state, old = Net(), read(path), read(path, 'more')
    mean = (state['table.weight'][:3] + old['anchors']) / 2
    net.table = nn.Embedding.from_pretrained(mean, freeze=False)
    return net.table


@way('code')
def folded(path):
    net = Net().eval()
    net.load_state_dict(read(path))
    return fuse_conv_bn_eval(net.stem, net.norm)


@way('code')
def normalised(path):
    head = nn.Linear(6, 5, bias=False)
    file = f'{path}/state.pth'
    load_checkpoint(head, file, revise_keys=[('head.', '')], logger='silent')
    head.weight.data = functional.normalize(head.weight.data)
    return head


@loader('constructor')
def rounded(net, path):
    state = read(path)
    net.body.weight.data.copy_((state['body.weight'] * 127).round() / 127)


@loader('init_weights')
def in_half_precision_in_the_file(net, path):
    net.body.weight.data.copy_(read(path)['body.weight'].bfloat16())
