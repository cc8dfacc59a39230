"""EfficientNet-Lite2: timm's network cut in two, its norms folded, nothing fetched from anywhere."""

from __future__ import annotations

import socket
from typing import Any, NoReturn

import pytest
import timm
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from models.efficientnet import LEVEL_CHANNELS, EfficientNetLite2Deep, EfficientNetLite2Trunk
from training.backbones import BACKBONES


@pytest.fixture(scope="module")
def whole() -> nn.Module:
    """Return timm's own network, its norms with statistics that change something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        network: nn.Module = timm.create_model("tf_efficientnet_lite2", features_only=True, pretrained=False).eval()
        for norm in network.modules():
            if isinstance(norm, BatchNormAct2d):
                norm.running_mean.uniform_(-0.2, 0.2)
                norm.running_var.uniform_(0.5, 1.5)
                norm.bias.data.uniform_(-0.2, 0.2)
    return network


@torch.inference_mode()
def test_both_halves_answer_as_timm_s_own_network_does(whole: nn.Module) -> None:
    tensors = {**whole.state_dict(), "classifier.bias": torch.zeros(1000)}
    trunk, deep = EfficientNetLite2Trunk(tensors=tensors).eval(), EfficientNetLite2Deep(tensors=tensors).eval()
    images = torch.rand(1, 3, 96, 64) * 2 - 1

    fine = trunk(images)
    found: list[Tensor] = [fine, *deep(fine)]

    assert [level.shape[1] for level in found] == LEVEL_CHANNELS
    assert [level.shape[2:] for level in found] == [(12, 8), (6, 4), (3, 2)]
    for level, expected in zip(found, whole(images)[2:], strict=True):
        assert float(expected.abs().max()) > 0
        torch.testing.assert_close(level, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    assert not any(isinstance(each, BatchNormAct2d) for part in (trunk, deep) for each in part.modules())


def test_no_network_is_asked_for_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_words: Any, **_more: Any) -> NoReturn:
        raise AssertionError("something was fetched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)

    EfficientNetLite2Trunk()


def test_there_is_one_width() -> None:
    with pytest.raises(ValueError, match="one width"):
        EfficientNetLite2Trunk(0.5)


def test_weights_that_lack_a_tensor_are_not_taken(whole: nn.Module) -> None:
    tensors = {name: tensor for name, tensor in whole.state_dict().items() if name != "blocks.6.0.conv_pw.weight"}

    with pytest.raises(KeyError, match=r"blocks\.6\.0\.conv_pw\.weight"):
        EfficientNetLite2Deep(tensors=tensors)


def test_stem_and_depthwise_layers_of_5_by_5_stay_and_the_others_learn() -> None:
    trunk, deep = EfficientNetLite2Trunk(), EfficientNetLite2Deep()

    BACKBONES["efficientnet_lite2"].freeze(trunk, deep)

    assert not any(parameter.requires_grad for parameter in trunk.features[:3].parameters())
    layers = [each for part in (trunk.features[3], deep) for each in part.modules() if isinstance(each, nn.Conv2d)]
    frozen = {layer.kernel_size for layer in layers if not layer.weight.requires_grad}
    learning = {layer.kernel_size for layer in layers if layer.weight.requires_grad}
    assert (frozen, learning) == ({(5, 5)}, {(1, 1), (3, 3)})


def test_a_layer_with_its_norm_folded_learns_at_a_rate_of_its_size_and_others_at_one_rate() -> None:
    small, large = (nn.Parameter(torch.full((4, 3, 1, 1), size)) for size in (0.02, 0.4))
    bias = nn.Parameter(torch.full((4,), 3.0))

    lite2, mobilenet = BACKBONES["efficientnet_lite2"], BACKBONES["mobilenet_v2"]

    assert [lite2.steps(each) for each in (small, large, bias)] == pytest.approx([0.2, 4.0, 1.0])
    assert [mobilenet.steps(each) for each in (small, large, bias)] == [1.0, 1.0, 1.0]
