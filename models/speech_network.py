"""The speech networks by name, for training and export."""

from typing import Literal

from models.demucs import Demucs, DemucsConfig
from models.speech_mask import SpeechMask, SpeechMaskConfig

Architecture = Literal["demucs", "mask"]


def build_speech_network(
    architecture: Architecture, *, hidden: int, predicts: Literal["speech", "noise"] = "noise"
) -> Demucs | SpeechMask:
    """Build an untrained network without level normalisation; `predicts` is for a Demucs."""
    if architecture == "mask":
        return SpeechMask(SpeechMaskConfig(hidden=hidden))
    return Demucs(DemucsConfig(hidden=hidden, predicts=predicts), normalize=False)
