"""What a speech network reads while it runs as shipped: decoded, resampled, split, at its level, with its state."""

from collections.abc import Iterator
from pathlib import Path

from calibration.recording import RecordingOpener, Tensors
from runtime.audio.stream import SpeechEnhancer
from runtime.errors import DecodeError
from runtime.manifest import Model
from runtime.media.audio import AudioReader
from runtime.media.probe import probe


def record_blocks(model: Model, recording: Path, *, blocks: int) -> Iterator[Tensors]:
    """Run a shipped speech model over a recording in float32 and give what the engine got, block after block.

    Args:
        model: A speech model of the zoo.
        recording: A file with sound.
        blocks: How many calls at most.

    Yields:
        Every input of one call by name; the arrays belong to the caller.

    Raises:
        DecodeError: The file has no sound.
    """
    tracks = probe(recording).audios
    if not tracks:
        raise DecodeError(f"{recording} has no sound to calibrate with; give recordings that have some")
    track = tracks[0]
    calls: list[Tensors] = []
    with (
        AudioReader(recording, track) as reader,
        SpeechEnhancer(
            model,
            RecordingOpener(calls, model.file()),
            channels=track.channels,
            layout=track.layout,
            sample_rate=track.sample_rate,
        ) as enhancer,
    ):
        for block in reader:
            enhancer.push(block.samples)
            for call in calls[:blocks]:
                blocks -= 1
                yield call
            calls.clear()
            if not blocks:
                return
