"""Batch norms whose statistics no longer change, folded into the convolutions before them: the same sums, fewer passes.

A frozen batch norm multiplies and adds by channel; so does a convolution. On a processor each pass over a map at a
thousand pixels costs as much as a small convolution, and MobileNetV2 has a norm behind every one.
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.ops import FrozenBatchNorm2d


def fold_batch_norms(network: nn.Module) -> None:
    """Fold every frozen batch norm that follows a convolution in a sequence; the network answers as before.

    Its weights are others afterwards: what is to be trained or written must not be folded. Float32 is best, for the
    products are rounded once.
    """
    for sequence in [each for each in network.modules() if isinstance(each, nn.Sequential)]:
        layers = list(sequence.named_children())
        for (before, convolution), (name, norm) in pairwise(layers):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, FrozenBatchNorm2d):
                # torch's own folding asks for nothing that a frozen norm lacks.
                setattr(sequence, before, fuse_conv_bn_eval(convolution.eval(), norm.eval()))
                setattr(sequence, name, nn.Identity())
