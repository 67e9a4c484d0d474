"""Multiply-adds of a network, as torch's own counter has them."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


@torch.no_grad()
def multiply_adds(network: nn.Module, in_channels: int, image_size: int) -> int:
    """Multiply-adds of one image's forward pass in eval mode: convolutions and matrix products."""
    image = torch.zeros(1, in_channels, image_size, image_size, device=next(network.parameters()).device)
    training = network.training
    network.eval()
    with FlopCounterMode(display=False) as counter:
        network(image)
    network.train(training)
    return counter.get_total_flops() // 2
