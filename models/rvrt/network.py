"""The whole network: extract features, estimate flow, propagate clip by clip in up to four branches, reconstruct."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.flow_warp import flow_warp, graph_warp
from models.rvrt.alignment import CLIP, GuidedDeformableAttention
from models.rvrt.blocks import FeatureExtraction, ResidualRefinement, Upsampler, quarter, transformer_group
from models.rvrt.configs import RvrtConfig
from models.spynet import SpyNet, neighbour_flows


class ClipFlows(NamedTuple):
    """Flows from a clip to the previous one: to the frame at the same index, and to the other frame."""

    same: Tensor
    other: Tensor


class Rvrt(nn.Module):
    """Restore a clip of an even number of frames."""

    def __init__(self, config: RvrtConfig) -> None:
        super().__init__()
        self.config = config
        names = config.branch_names
        self.flow = SpyNet(config.flow)
        self.extract = FeatureExtraction(config)
        self.align = nn.ModuleDict({name: GuidedDeformableAttention(config) for name in names})
        self.refine = nn.ModuleDict(
            {
                name: transformer_group(
                    config, (2 + index) * config.embed, stage=1, frames=CLIP, groups=config.groups[1 + index]
                )
                for index, name in enumerate(names)
            }
        )
        self.reconstruct = transformer_group(
            config, (1 + len(names)) * config.embed, stage=2, frames=1, groups=config.groups[-1]
        )
        self.before_upsampler = nn.Conv2d(config.embed, config.up_width, 1)
        self.refinement = ResidualRefinement(config.up_width) if config.refinement else None
        self.upsampler = Upsampler(config.up_width)
        self.last = nn.Conv2d(config.up_width, 3, 3, padding=1)

    def forward(self, frames: Tensor) -> Tensor:
        """Restore a clip.

        Args:
            frames: (batch, frames, 3, height, width), RGB in [0, 1], with the noise level as a fourth channel if
            configured; an even number of frames, and sides that are multiples of `config.side_multiple`.

        Returns:
            (batch, frames, 3, scale height, scale width), not clamped.

        Raises:
            ValueError: The clip has another shape.
        """
        self._check(frames)
        batch, count = frames.shape[:2]
        images = frames[:, :, :3]
        shallow = self.extract(frames.flatten(0, 1)).unflatten(0, (batch, count))
        small = images
        if self.config.scale == 1:
            small = quarter(images.flatten(0, 1)).unflatten(0, (batch, count))
        forward_flows, backward_flows = neighbour_flows(self.flow, small)
        features = {"shallow": list(shallow.split(CLIP, dim=1))}
        updated: dict[str, list[ClipFlows]] = {}
        for name in self.config.branch_names:
            if name.startswith("backward"):
                turned = {key: _turn(clips) for key, clips in features.items()}
                flows = updated.get("backward", clip_flows(backward_flows.flip(1)))
                clips, updated["backward"] = self.propagate(name, turned, flows)
                features[name] = _turn(clips)
            else:
                flows = updated.get("forward", clip_flows(forward_flows))
                features[name], updated["forward"] = self.propagate(name, features, flows)
        return self._reconstruct(images, features)

    def propagate(
        self, name: str, features: dict[str, list[Tensor]], flows: list[ClipFlows]
    ) -> tuple[list[Tensor], list[ClipFlows]]:
        """Propagate features through the clips in the given order (section 3.1).

        Args:
            name: The branch.
            features: Every earlier branch's clips, (batch, 2, channels, height, width) each.
            flows: Of each clip after the first, to the previous one.

        Returns:
            The branch's clips, and the flows refined by this branch, for the next branch of the same direction.
        """
        # Queries and keys come from the previous branch.
        below = list(features.values())[-1]
        carried = torch.zeros_like(below[0])
        results: list[Tensor] = []
        refined: list[ClipFlows] = []
        for index, clip in enumerate(below):
            if index > 0:
                flow = flows[index - 1]
                warped = _warp_both(carried, flow)
                carried, after = self.align[name](clip, below[index - 1], carried, warped, (flow.same, flow.other))
                refined.append(ClipFlows(*after))
            seen = torch.cat([clips[index] for clips in features.values()] + [carried], dim=2)
            carried = carried + self.refine[name](seen.flatten(0, 1)).view(carried.shape)
            results.append(carried)
        return results, refined

    def _reconstruct(self, frames: Tensor, features: dict[str, list[Tensor]]) -> Tensor:
        batch, count = frames.shape[:2]
        joined = torch.cat([torch.cat(clips, dim=1) for clips in features.values()], dim=2)
        x = self.reconstruct(joined.flatten(0, 1))
        x = functional.leaky_relu(self.before_upsampler(x), 0.1)
        if self.refinement is not None:
            x = self.refinement(x.unflatten(0, (batch, count))).flatten(0, 1)
        detail = self.last(self.upsampler(x))
        base = frames.flatten(0, 1)
        if self.config.scale == 4:
            base = functional.interpolate(base, scale_factor=4, mode="bilinear", align_corners=False)
        restored: Tensor = (base + detail).unflatten(0, (batch, count))
        return restored

    def _check(self, frames: Tensor) -> None:
        config = self.config
        if frames.ndim != 5 or frames.shape[2] != config.input_channels or frames.shape[1] % CLIP:
            raise ValueError(
                f"got a clip of shape {tuple(frames.shape)}; expected (batch, an even number of frames, "
                f"{config.input_channels}, height, width): repeat the last frame or add the noise level"
            )
        if frames.shape[-1] % config.side_multiple or frames.shape[-2] % config.side_multiple:
            raise ValueError(
                f"got frames of {frames.shape[-1]}x{frames.shape[-2]}; sides must be multiples of "
                f"{config.side_multiple}: pad the frames"
            )


def clip_flows(flows: Tensor) -> list[ClipFlows]:
    """Chain the flows of neighbouring frames, each to the previous one, into flows from clip to clip.

    Args:
        flows: (batch, frames - 1, 2, height, width), in the order of propagation.
    """
    chained = []
    for first in range(0, flows.shape[1] - 2, CLIP):
        flow_01, flow_12, flow_23 = (flows[:, first + step] for step in range(3))
        flow_02 = flow_12 + graph_warp(flow_01, flow_12)
        flow_13 = flow_23 + graph_warp(flow_12, flow_23)
        flow_03 = flow_23 + graph_warp(flow_02, flow_23)
        chained.append(ClipFlows(torch.stack((flow_02, flow_13), dim=1), torch.stack((flow_12, flow_03), dim=1)))
    return chained


def _turn(clips: list[Tensor]) -> list[Tensor]:
    """Return the clips reversed: last clip first, each with its frames swapped."""
    return [torch.flip(clip, (1,)) for clip in reversed(clips)]


def _warp_both(clip: Tensor, flow: ClipFlows) -> tuple[Tensor, Tensor]:
    """Warp a clip by `flow.same`, and with its frames swapped by `flow.other`.

    In one warp: TensorRT for RTX 1.7 fails to build two together with the deformable attention (docs/export.md).
    """
    frames = torch.cat((clip, torch.flip(clip, (1,)))).flatten(0, 1)
    warped = flow_warp(frames, torch.cat((flow.same, flow.other)).flatten(0, 1))
    same, other = warped.view(2, *clip.shape)
    return same, other
