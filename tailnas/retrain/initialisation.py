"""With which weights a network starts."""

from torch import nn

from tailnas.space.network import Network


def initialise(network: Network, how: str) -> None:
    """Draw weights anew from the global generator, as `retrain.network.initialisation` says; `default` leaves them.

    kaiming_normal: N(0, 2 / fan-in) for every convolution and linear layer (He et al. 2015, 1502.01852, equation 10);
    kaiming_normal_convolutions: for the convolutions. Biases and BatchNorm stay as they are.
    """
    if how == "default":
        return
    kinds = (nn.Conv2d,) if how == "kaiming_normal_convolutions" else (nn.Conv2d, nn.Linear)
    for module in network.modules():
        if isinstance(module, kinds):
            nn.init.kaiming_normal_(module.weight)
