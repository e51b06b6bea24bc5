"""One step of `LightVsr` as shipped, and the conversion of a shipped step back to the network's weights."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.light_vsr import LightVsr, LightVsrConfig


class LightVsrStep(nn.Module):
    """The network as it is shipped.

    `strength` scales the detail that is added to the bicubic upscaling. The first convolution is split in two, one for
    the hidden features and one for the frames: ONNX Runtime's blocked convolutions take a multiple of 16 channels or
    fewer than 16, and fall back to a slower one for the 38 channels used in training.
    """

    def __init__(self, network: LightVsr) -> None:
        super().__init__()
        self.network = network
        config = network.config
        seen, hidden = 3 * config.grid**2, config.channels
        weight = network.first.weight.detach()
        assert network.first.bias is not None
        self.of_frames = nn.Conv2d(seen + 3, hidden, 3, padding=1)
        self.of_hidden = nn.Conv2d(hidden, hidden, 3, padding=1, bias=False)
        with torch.no_grad():
            self.of_frames.weight.copy_(torch.cat((weight[:, :seen], weight[:, seen + hidden :]), dim=1))
            self.of_frames.bias.copy_(network.first.bias)  # type: ignore[union-attr]
            self.of_hidden.weight.copy_(weight[:, seen : seen + hidden])

    def forward(
        self,
        frame: Tensor,
        strength: Tensor,
        hidden: Tensor,
        previous: Tensor,
        degradation: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Map frame, strength (1,), the two states and the descriptor to the enhanced frame and the next states."""
        network = self.network
        planes, carried = network.look(frame)
        bias, gain = network.modulation(degradation)
        first = self.of_hidden(hidden) + self.of_frames(torch.cat((planes, previous), dim=1))
        features = network.refine(first if bias is None else first + bias)
        output = network.show(frame, features if gain is None else features * gain, strength)
        return output, features, carried


def network_weights(step: Mapping[str, Tensor], config: LightVsrConfig) -> dict[str, Tensor]:
    """Return the network weights of a step, to continue training from a shipped model.

    Args:
        step: The step's weights by name, from its `state_dict` or its ONNX initializers.
        config: The network's sizes.

    Returns:
        A state dict for `LightVsr.load_state_dict`.

    Raises:
        KeyError: A weight of the network is not among them.
    """
    prefix = "network."
    weights = {name.removeprefix(prefix): value for name, value in step.items() if name.startswith(prefix)}
    seen = 3 * config.grid**2
    of_frames, of_hidden = step["of_frames.weight"], step["of_hidden.weight"]
    weights["first.weight"] = torch.cat((of_frames[:, :seen], of_hidden, of_frames[:, seen:]), dim=1)
    weights["first.bias"] = step["of_frames.bias"]
    return {name: weights[name] for name in LightVsr(config).state_dict() if name in weights}
