"""The search network with two branches (BBN, arXiv 1912.02413, inside the search: arXiv 2406.07028).

    net = TwoBranchSuperNet(channels, cells, num_classes, in_channels=3)    # `cells` backbone cells, then two heads
    alphas = initial_alphas(net.components, generator)                      # normal, reduce, instance_head, class_head
    net(images_i, images_c, alphas, mixing_ratio, mix="logits") -> outputs (N, K)
    net.predict_logits(images, alphas, mixing_ratio=0.5) -> outputs (N, K)  # one batch of images through both heads
    load_pretrained(net, source_state)                                      # from a SuperNet with cells + 1 cells

`outputs` go into the mixed cross-entropy mu CE(outputs, y_i) + (1 - mu) CE(outputs, y_c) for either `mix`: with
"logits" they are z = 2 (mu W_i f_i + (1 - mu) W_c f_c) + b, with "probabilities" the logarithm of the mixed
probabilities.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tailnas.space.backends.choose import AUTOMATIC
from tailnas.space.cell import SearchCell
from tailnas.space.supernet import Backbone, SuperNet, softmax_weights

Mix = Literal["logits", "probabilities"]


class TwoBranchSuperNet(Backbone):
    """A shared backbone of `cells` search cells and two heads, each one stride-1 search cell with alphas of its own.

    Both heads take the outputs of the last two backbone cells. Batch statistics are those of each branch's batch; the
    running statistics of the backbone are updated by the instance batch first, then by the class batch.
    `reductions`, `backend`, `partial`: as SuperNet has them.
    """

    components = ("normal", "reduce", "instance_head", "class_head")

    def __init__(
        self,
        channels: int,
        cells: int,
        num_classes: int,
        in_channels: int = 3,
        *,
        reductions: Sequence[int] | None = None,
        backend: str = AUTOMATIC,
        partial: int = 1,
    ) -> None:
        super().__init__(channels, cells, in_channels, reductions, backend, partial)
        self.num_classes = num_classes
        self.instance_head = self._head()
        self.class_head = self._head()
        features = self.instance_head.output_channels
        self.instance_classifier = nn.Linear(features, num_classes, bias=False)
        self.class_classifier = nn.Linear(features, num_classes, bias=False)
        self.bias = nn.Parameter(torch.zeros(num_classes))

    def _head(self) -> SearchCell:
        older, newer = self.output_channels
        return SearchCell(
            older,
            newer,
            self.width,
            reduction=False,
            reduction_before=self.ends_in_reduction,
            partial=self.partial,
        )

    def forward(
        self,
        images_i: Tensor,
        images_c: Tensor,
        alphas: Mapping[str, Tensor] | None,
        mixing_ratio: float | Tensor,
        mix: Mix = "logits",
    ) -> Tensor:
        """Mixed outputs (N, K) of an instance-balanced batch and a class-balanced batch of the same size N."""
        weights = softmax_weights(alphas, self.components, self.bias)
        features_i = self._head_features(self.states(images_i, weights), "instance_head", weights)
        features_c = self._head_features(self.states(images_c, weights), "class_head", weights)
        return self.mixed(features_i, features_c, mixing_ratio, mix)

    def predict_logits(
        self,
        images: Tensor,
        alphas: Mapping[str, Tensor] | None,
        mixing_ratio: float | Tensor = 0.5,
        mix: Mix = "logits",
    ) -> Tensor:
        """Outputs (N, K) of one batch that goes through both heads; at ratio 1/2 they are W_i f_i + W_c f_c + b.

        With ratios (R, 1, 1) they are (R, N, K).
        """
        weights = softmax_weights(alphas, self.components, self.bias)
        states = self.states(images, weights)
        features_i = self._head_features(states, "instance_head", weights)
        features_c = self._head_features(states, "class_head", weights)
        return self.mixed(features_i, features_c, mixing_ratio, mix)

    def _head_features(self, states: tuple[Any, Any], head: str, weights: Mapping[str, Tensor]) -> Tensor:
        backend = self.backend(self.bias.device, training=self.training)
        return backend.pooled(backend.cell(getattr(self, head), *states, self.mixture(weights[head])))

    def mixed(self, features_i: Tensor, features_c: Tensor, mixing_ratio: float | Tensor, mix: Mix) -> Tensor:
        """The two branches' features (N, D) as mixed outputs (N, K) with mixing ratio mu in [0, 1]."""
        mu = torch.as_tensor(mixing_ratio).to(self.bias)
        scores_i, scores_c = self.instance_classifier(features_i), self.class_classifier(features_c)
        if mix == "logits":
            return 2 * (mu * scores_i + (1 - mu) * scores_c) + self.bias
        if mix == "probabilities":
            return torch.logaddexp(
                torch.log(mu) + torch.log_softmax(scores_i + self.bias, dim=1),
                torch.log1p(-mu) + torch.log_softmax(scores_c + self.bias, dim=1),
            )
        raise ValueError(f"mix: {mix!r}; allowed: logits, probabilities")


def load_pretrained(net: SuperNet | TwoBranchSuperNet, source_state: Mapping[str, Tensor]) -> None:
    """Start `net` from a pretrained single-branch super-network: everything but the classifier, which stays as it was
    drawn.

    The source has the depth of `net`, a head cell counted as a cell: where `net` has two branches, both heads start
    as the source's last cell. Raises ValueError when the source's shapes are others.
    """
    state = {key: value for key, value in source_state.items() if not key.startswith("classifier.")}
    if isinstance(net, TwoBranchSuperNet):
        last = f"cells.{len(net.cells)}."
        head = {key.removeprefix(last): value for key, value in state.items() if key.startswith(last)}
        state = {key: value for key, value in state.items() if not key.startswith(last)}
        for name in ("instance_head", "class_head"):
            state |= {f"{name}.{key}": value for key, value in head.items()}
    own = net.state_dict()
    fresh = [key for key in own if key == "bias" or "classifier" in key.split(".")[0]]
    expected = own.keys() - set(fresh)
    if differing := sorted(expected ^ state.keys()):
        raise ValueError(f"the tensor {differing[0]} is in one of the two networks only (another depth?)")
    for key, value in state.items():
        if own[key].shape != value.shape:
            raise ValueError(f"the tensor {key} has shape {tuple(value.shape)}, here it has {tuple(own[key].shape)}")
    net.load_state_dict(state, strict=False)
