"""Whole jobs on videos with several audio tracks, some of them empty, or with very many."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from runtime.enhance import enhance
from runtime.errors import OptionError, OutputError, UnsupportedMediaError
from runtime.media import probe as probing
from runtime.media.audio_samples import make_frame
from runtime.media.probe import probe
from runtime.options import AudioMode, EnhanceOptions, LoudnessStandard
from runtime.report import Action, Report

RATE = 48_000
SOUND_ONLY = EnhanceOptions(preset="sound-only")


def write_film(path: Path, tracks: list[tuple[int, int]], *, codec: str = "aac", frames: int = 50) -> Path:
    """Write a video of 25 fps; each audio track is its first sample and its count, 0 for an empty one."""
    with av.open(str(path), "w") as output:
        video = output.add_stream("mpeg2video", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audios = [output.add_stream(codec, rate=RATE, layout="mono") for _ in tracks]
        output.start_encoding()
        packets = []
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number % 250, np.uint8), "rgb24").reformat(
                format="yuv420p"
            )
            frame.pts, frame.time_base = number, Fraction(1, 25)
            packets += video.encode(frame)
        packets += video.encode(None)
        for audio, (first, count) in zip(audios, tracks, strict=True):
            if count:
                samples = np.random.default_rng(1).normal(0, 0.1, (1, count)).astype(np.float32)
                packets += audio.encode(make_frame(samples, layout="mono", sample_rate=RATE, pts=first))
                packets += audio.encode(None)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            output.mux(packet)
    return path


def fates(report: Report) -> list[tuple[Action, str]]:
    return [(stream.action, stream.reason) for stream in report.streams if stream.kind == "audio"]


@pytest.mark.parametrize(
    ("source", "codec", "target"),
    [("a.ts", "mp2", "b.mkv"), ("a.mkv", "pcm_s16le", "b.mp4"), ("a.mkv", "aac", "b.mkv"), ("a.avi", "mp2", "b.mov")],
)
@pytest.mark.parametrize("durable", [False, True])
def test_a_track_without_a_sample_is_not_carried(
    tmp_path: Path, source: str, codec: str, target: str, durable: bool
) -> None:
    path = write_film(tmp_path / source, [(0, RATE), (0, 0)], codec=codec)

    report = enhance(path, tmp_path / target, SOUND_ONLY, workspace=tmp_path / "work" if durable else None)

    assert [action for action, _ in fates(report)] == [Action.ENHANCED, Action.NOT_CARRIED]
    assert fates(report)[1][1].startswith("it is empty")
    assert len(probe(tmp_path / target).audios) == 1


@pytest.mark.parametrize("target", ["b.mp4", "b.mov", "b.mkv"])
def test_a_span_in_which_a_track_is_silent_leaves_the_track_out(tmp_path: Path, target: str) -> None:
    path = write_film(tmp_path / "a.mp4", [(0, RATE // 2), (0, 2 * RATE)])
    options = EnhanceOptions(preset="sound-only", start=Fraction(1), end=Fraction(3, 2))

    report = enhance(path, tmp_path / target, options)

    assert fates(report)[0] == (Action.NOT_CARRIED, "it is empty from --start to --end")
    assert fates(report)[1][0] is Action.ENHANCED


def test_a_file_whose_only_audio_is_empty_is_refused_with_a_message(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mkv", [(0, 0)])

    with pytest.raises(UnsupportedMediaError, match=r"a\.mkv has no audio to enhance: it is empty"):
        enhance(path, tmp_path / "b.mp4", SOUND_ONLY)

    assert not (tmp_path / "b.mp4").exists()


def test_a_span_without_any_audio_is_refused_with_a_message(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mkv", [(0, RATE)])

    with pytest.raises(OptionError, match="no audio to enhance: it is empty from --start to --end"):
        enhance(path, tmp_path / "b.mkv", EnhanceOptions(preset="sound-only", start=Fraction(3, 2)))


def test_samples_that_had_to_be_clipped_are_reported_in_the_report(tmp_path: Path) -> None:
    samples = np.full((1, RATE), 0.2, np.float32)
    samples[0, 1000:1100] = 3
    with av.open(str(tmp_path / "a.wav"), "w") as output:
        stream = output.add_stream("pcm_f32le", rate=RATE, layout="mono")
        for packet in [
            *stream.encode(make_frame(samples, layout="mono", sample_rate=RATE, pts=0)),
            *stream.encode(None),
        ]:
            output.mux(packet)

    report = enhance(tmp_path / "a.wav", tmp_path / "b.flac", EnhanceOptions(strength=0.0))

    assert "audio track 0: 100 samples above full scale were clipped" in " ".join(report.warnings)


def test_a_track_of_a_broadcast_that_begins_late_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_film(tmp_path / "a.ts", [(0, RATE), (RATE * 90, RATE)], codec="mp2", frames=25 * 92)
    with av.open(str(path)) as container:
        assert [stream.sample_rate for stream in container.streams.audio] == [RATE, 0]
    monkeypatch.setattr(probing, "_BYTES_TO_LOOK", 50_000)

    found = probe(path).audios

    assert [(audio.sample_rate, audio.layout) for audio in found] == [(RATE, "mono")] * 2


def test_the_first_sixteen_tracks_are_cleaned_and_the_others_copied(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mkv", [(0, 5000)] * 18, codec="pcm_s16le", frames=5)

    report = enhance(path, tmp_path / "b.mkv", SOUND_ONLY)

    assert [action for action, _ in fates(report)] == [Action.ENHANCED] * 16 + [Action.COPIED] * 2
    assert "only the first 16 of 18 audio tracks were enhanced; the others were copied unchanged" in report.warnings
    assert all(audio.samples_in == audio.samples_out == 5000 for audio in report.sound)


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize(
    ("name", "codec", "kept"), [("a.ogg", "vorbis", "opus"), ("a.m4b", "aac", "aac"), ("a.m4b", "alac", "alac")]
)
def test_an_audio_file_keeps_its_suffix(tmp_path: Path, name: str, codec: str, kept: str, durable: bool) -> None:
    options = {"strict": "experimental"} if codec == "vorbis" else {}
    samples = np.random.default_rng(1).normal(0, 0.1, (2, 44_100)).astype(np.float32)
    with av.open(str(tmp_path / name), "w", format="mp4" if name == "a.m4b" else "ogg") as output:
        stream = output.add_stream(codec, rate=44_100, layout="stereo", options=options)
        frame = make_frame(samples, layout="stereo", sample_rate=44_100, pts=0)
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            output.mux(packet)

    report = enhance(tmp_path / name, None, EnhanceOptions(), workspace=tmp_path / "work" if durable else None)

    assert Path(report.result.path).suffix == Path(name).suffix
    assert report.streams[0].out_codec == kept
    (audio,) = report.sound
    assert audio.samples_out == round(audio.samples_in * Fraction(48_000 if kept == "opus" else 44_100, 44_100))
    assert ("resampled from 44100 to 48000 Hz" in report.streams[0].reason) == (kept == "opus")


@pytest.mark.parametrize("suffix", [".ts", ".avi", ".mxf", ".aiff", ""])
def test_a_container_that_is_not_written_is_refused_before_any_work(tmp_path: Path, suffix: str) -> None:
    path = write_film(tmp_path / "a.mkv", [(0, 5000)], frames=5)

    with pytest.raises(OutputError, match=r"which is not supported for results; expected one of \.mp4"):
        enhance(path, tmp_path / f"b{suffix}", SOUND_ONLY)


@pytest.mark.parametrize(
    ("suffix", "options", "lufs"),
    [
        (".wav", EnhanceOptions(preset="speech", audio=AudioMode.REPAIR), -16.0),
        (".m4a", EnhanceOptions(preset="dialogue-for-video", audio=AudioMode.REPAIR), -23.0),
        (".mp4", EnhanceOptions(scale=1, audio=AudioMode.REPAIR, loudness=LoudnessStandard.ATSC), -24.0),
    ],
)
def test_a_finished_track_has_its_loudness_and_every_sample(
    tmp_path: Path, suffix: str, options: EnhanceOptions, lufs: float
) -> None:
    source = write_film(tmp_path / "film.mp4", [(0, 4 * RATE)])
    target = tmp_path / f"result{suffix}"

    report = enhance(source, target, options)

    (track,) = report.sound
    assert track.finish is not None
    assert track.finish.result is not None
    assert track.finish.result.integrated == pytest.approx(lufs, abs=0.5)
    assert track.finish.result.true_peak is not None
    assert track.finish.result.true_peak < -1.0
    assert track.samples_in == track.samples_out
    assert report.check_failures == ()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.mp4", target.name]
    first = target.read_bytes()
    enhance(source, target, replace(options, overwrite=True))
    assert target.read_bytes() == first


def test_noise_without_speech_is_not_made_loud_again(tmp_path: Path) -> None:
    source = write_film(tmp_path / "film.mp4", [(0, 4 * RATE)])

    report = enhance(source, tmp_path / "result.wav", EnhanceOptions(preset="speech"))

    (track,) = report.sound
    assert track.finish is not None
    assert track.finish.result is not None
    assert track.finish.result.integrated is not None
    assert track.finish.result.integrated < -30
    assert any("below the target of -16 LUFS" in warning for warning in report.warnings)


def test_music_is_only_repaired(tmp_path: Path) -> None:
    source = write_film(tmp_path / "film.mp4", [(0, RATE)], frames=25)

    report = enhance(source, tmp_path / "result.mp4", EnhanceOptions(preset="music-safe"))

    assert [track.mode for track in report.sound] == ["repair"]
    assert report.engines == ()
    assert (tmp_path / "result.mp4").exists()


def test_loudness_of_copied_audio_is_refused(tmp_path: Path) -> None:
    source = write_film(tmp_path / "film.mp4", [(0, RATE)], frames=2)

    with pytest.raises(OptionError, match="leave --loudness out"):
        enhance(source, None, EnhanceOptions(audio=AudioMode.OFF, loudness=LoudnessStandard.EBU))
