"""What a spectral mask needs to be streamed: its step, its states and its delay."""

from torch import Tensor, nn

from export.speech_step import BLOCK_SAMPLES, StepGraph
from models.speech_mask import SpeechMask
from runtime.manifest import AudioSpec

MEANINGS = {
    "past": "last hop of the input",
    "h": "hidden states of the GRUs",
    "tail": "second half of the last synthesised window",
}


class _Step(nn.Module):
    def __init__(self, network: SpeechMask) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, past: Tensor, h: Tensor, tail: Tensor) -> tuple[Tensor, ...]:
        return self.network.step(x, past, h, tail)


def mask_graph(network: SpeechMask) -> StepGraph:
    """Make the step graph of a mask."""
    hop = network.config.hop
    return StepGraph(
        step=_Step(network),
        whole=network,
        shapes=network.state_shapes(),
        meanings=MEANINGS,
        spec=AudioSpec(
            sample_rate=network.config.sample_rate,
            block_samples=BLOCK_SAMPLES,
            block_multiple=hop,
            delay_samples=hop,
            lead_in_samples=0,
            reset_after_frames=0,
            frame_samples=hop,
        ),
    )
