"""Batch norms whose statistics no longer change, folded into the convolutions before them: the same sums, fewer passes.

A frozen batch norm multiplies and adds by channel; so does a convolution. On a processor each pass over a map at a
thousand pixels costs as much as a small convolution, and MobileNetV2 has a norm behind every one.
"""

from __future__ import annotations

from itertools import pairwise

from timm.layers import BatchNormAct2d
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.ops import FrozenBatchNorm2d


def fold_batch_norms(network: nn.Module) -> None:
    """Fold every frozen batch norm, and every norm of timm's, into the convolution before it; the answers stay.

    The convolution is the child registered just before the norm, as in all of these networks it is the one that runs
    just before. timm's norms hold an activation, which stays. Their statistics count as they are: none changes here.

    Its weights are others afterwards: what is to be trained or written must not be folded. Float32 is best, for the
    products are rounded once.
    """
    for parent in list(network.modules()):
        for (before, convolution), (name, norm) in pairwise(list(parent.named_children())):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, FrozenBatchNorm2d | BatchNormAct2d):
                # torch's own folding asks for nothing that a frozen norm lacks.
                setattr(parent, before, fuse_conv_bn_eval(convolution.eval(), norm.eval()))
                setattr(parent, name, norm.act if isinstance(norm, BatchNormAct2d) else nn.Identity())
