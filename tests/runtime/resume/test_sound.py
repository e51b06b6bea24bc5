"""Audio goes through its own file and comes out unchanged."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.enhance import enhance
from runtime.options import EnhanceOptions

OPTIONS = EnhanceOptions(preset="sound-only", threads=2)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".flac", ".wav", ".m4a", ".mp3", ".opus"])
def test_an_audio_job_gives_the_same_packets_as_a_streamed_one(
    clip: Callable[..., Path], tmp_path: Path, packets: Callable[[Path], Any], suffix: str
) -> None:
    source = clip()
    streamed = enhance(source, tmp_path / f"streamed{suffix}", OPTIONS)

    durable = enhance(source, tmp_path / f"durable{suffix}", OPTIONS, workspace=tmp_path / "work")

    assert packets(tmp_path / f"durable{suffix}") == packets(tmp_path / f"streamed{suffix}")
    assert durable.sound == streamed.sound
    assert durable.streams == streamed.streams
    assert durable.warnings == streamed.warnings
    if suffix not in (".mkv", ".opus"):  # their muxers generate random IDs for the file and its tracks
        assert (tmp_path / f"durable{suffix}").read_bytes() == (tmp_path / f"streamed{suffix}").read_bytes()
