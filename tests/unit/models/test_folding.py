"""Batch norms folded into convolutions: the same answers, fewer passes, and nothing else touched."""

from __future__ import annotations

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from models.folding import fold_batch_norms
from models.mobilenet import MobileNetV2Deep, MobileNetV2Trunk


def norms(network):
    return [each for each in network.modules() if isinstance(each, FrozenBatchNorm2d)]


@pytest.fixture
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        yield


def with_statistics(network):
    """Give every norm statistics and factors of its own: those of a new one change nothing."""
    for norm in norms(network):
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.uniform_(-0.5, 0.5)
        norm.running_mean.uniform_(-0.5, 0.5)
        norm.running_var.uniform_(0.5, 2.0)
    return network


@pytest.mark.parametrize(("build", "channels"), [(MobileNetV2Trunk, 3), (MobileNetV2Deep, 16)])
@torch.inference_mode()
def test_a_backbone_answers_as_before_without_a_norm_left(seeded, build, channels):
    network = with_statistics(build(0.25)).eval()
    maps = torch.rand(1, channels if channels == 3 else network.stride16[0].conv[0][0].in_channels, 64, 96)
    before = network(maps)
    assert norms(network)

    fold_batch_norms(network)

    assert norms(network) == []
    for one, other in zip(
        *([each] if torch.is_tensor(each) else each for each in (before, network(maps))), strict=True
    ):
        assert one.abs().max() > 0
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5 * float(one.abs().max()))


@torch.inference_mode()
def test_a_norm_that_follows_no_convolution_and_one_that_still_learns_stay(seeded):
    alone = with_statistics(nn.Sequential(nn.ReLU(), FrozenBatchNorm2d(3)))
    learning = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).eval()
    maps = torch.rand(1, 3, 8, 8)
    before = alone(maps), learning(maps)

    for network in (alone, learning):
        fold_batch_norms(network)

    assert torch.equal(alone(maps), before[0])
    assert torch.equal(learning(maps), before[1])
    assert isinstance(learning[1], nn.BatchNorm2d)


@torch.inference_mode()
def test_a_norm_of_timm_s_is_folded_and_its_activation_stays(seeded):
    network = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), BatchNormAct2d(4, act_layer=nn.ReLU6)).eval()
    network[1].running_var.uniform_(0.5, 2.0)
    network[1].bias.uniform_(-0.5, 0.5)
    maps = torch.randn(1, 3, 8, 8)
    before = network(maps)

    fold_batch_norms(network)

    assert isinstance(network[1], nn.ReLU6)
    assert float(before.min()) == 0
    torch.testing.assert_close(network(maps), before)


@torch.inference_mode()
def test_folding_twice_is_folding_once(seeded):
    network = with_statistics(MobileNetV2Trunk(0.25)).eval()
    fold_batch_norms(network)
    once = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    fold_batch_norms(network)
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in once.items())
