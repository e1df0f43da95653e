"""The zoo's networks in PyTorch: the same layers, in the same order, with the same number of parameters."""

from torch import nn
from torch.nn.functional import relu
from torch.nn.utils.fusion import fuse_conv_bn_eval


def norm_after(convolution):
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels))


class BasicBlock(nn.Module):
    def __init__(self, ins, outs, stride):
        super().__init__()
        self.first = norm_after(nn.Conv2d(ins, outs, 3, stride, 1, bias=False))
        self.second = norm_after(nn.Conv2d(outs, outs, 3, 1, 1, bias=False))
        same = stride == 1 and ins == outs
        self.shortcut = nn.Identity() if same else norm_after(nn.Conv2d(ins, outs, 1, stride, bias=False))

    def forward(self, x):
        return relu(self.second(relu(self.first(x), inplace=True)) + self.shortcut(x), inplace=True)


def resnet18(width, channels=3, classes=10):
    """The CIFAR form: a 3x3 stem, four stages of two blocks, widths 1, 2, 4 and 8 times `width`."""
    layers = [norm_after(nn.Conv2d(channels, width, 3, 1, 1, bias=False)), nn.ReLU(inplace=True)]
    last = width
    for stage in range(4):
        outs = width << stage
        layers += [BasicBlock(last, outs, 2 if stage else 1), BasicBlock(outs, outs, 1)]
        last = outs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, classes))


def vgg13(width, channels=1, edge=28, classes=10):
    """Two convolutions a stage; a pool whose input is narrower than 2 is left out."""
    layers, last = [], channels
    for outs in (width, 2 * width, 4 * width, 8 * width, 8 * width):
        for _ in range(2):
            layers += [norm_after(nn.Conv2d(last, outs, 3, 1, 1)), nn.ReLU(inplace=True)]
            last = outs
        if edge >= 2:
            layers.append(nn.MaxPool2d(2))
            edge //= 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(last * max(edge, 1) ** 2, classes))


def folded(module):
    """The module for evaluation, every batch norm multiplied into its convolution, as n2n evaluates too."""
    for name, child in module.named_children():
        if isinstance(child, nn.Sequential) and len(child) == 2 and isinstance(child[1], nn.BatchNorm2d):
            setattr(module, name, fuse_conv_bn_eval(child[0], child[1]))
        else:
            folded(child)
    return module


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())
