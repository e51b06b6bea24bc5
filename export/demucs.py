"""What a Demucs needs to be streamed: its step, its states and its delays."""

from export.speech_step import BLOCK_SAMPLES, StepGraph
from models.demucs import Demucs
from models.demucs_step import DemucsStep, reset_states, state_shapes, step_timing
from runtime.manifest import AudioSpec

MEANINGS = {
    "up": "past of an interpolation filter",
    "xin": "overlap of the first convolution",
    "skip": "features that wait for the decoder",
    "h": "hidden state of the LSTM",
    "c": "cell state of the LSTM",
    "tail": "overlap of a transposed convolution",
    "down": "past of a decimation filter",
}


def demucs_graph(network: Demucs) -> StepGraph:
    """Make the step graph of a network that runs without level normalisation.

    Raises:
        ValueError: The network normalises the level, or has another geometry than the published one.
    """
    if network.normalize:
        raise ValueError("got a network that normalises its input; the host tracks the level")
    timing = step_timing(network.config)
    shapes = state_shapes(network.config)
    return StepGraph(
        step=DemucsStep(network),
        whole=network.estimate,
        shapes=shapes,
        meanings={name: MEANINGS[name.rstrip("0123456789")] for name in shapes},
        spec=AudioSpec(
            sample_rate=network.config.sample_rate,
            block_samples=BLOCK_SAMPLES,
            block_multiple=timing.frame,
            delay_samples=timing.delay,
            lead_in_samples=timing.lead_in,
            reset_after_frames=timing.reset_after_frames,
            reset_states=reset_states(network.config),
            predicts=network.config.predicts,
            frame_samples=timing.frame,
        ),
    )
