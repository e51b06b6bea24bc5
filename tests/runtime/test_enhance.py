"""Whole jobs, from file to file: nothing is lost, moved or left behind."""

import threading
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from runtime.enhance import enhance
from runtime.errors import CancelledError, OptionError, OutputError, UnsupportedMediaError
from runtime.media import demux
from runtime.media.muxer import Muxer
from runtime.options import AudioMode, Codec, EnhanceOptions
from runtime.report import Action, VerificationError
from runtime.resume.writer import SegmentRule
from tests import media

RESTORE = EnhanceOptions(preset="restore", audio=AudioMode.OFF)


def moving(index, height, width):
    y, x = np.mgrid[:height, :width]
    waves = [np.sin((x + 2 * index) / 9), np.cos((y + index) / 7), np.sin((x + y) / 12)]
    return (np.stack(waves, -1) * 90 + 128).astype(np.uint8)


def write_clip(
    path,
    *,
    times=range(0, 3000, 125),
    size=(96, 64),
    pixel_format="yuv420p",
    codec="libx264",
    colour=(1, 1),
    audio=False,
):
    """Write a clip at the given times in milliseconds; `colour` is FFmpeg's matrix and range."""
    noise = np.random.default_rng(1).normal(0, 3000, (1, 2 * 96000)).astype(np.int16)
    track = media.AudioTrack(noise, "pcm_s16le" if path.suffix == ".mkv" else "aac", layout="stereo")
    return media.write_clip(
        path,
        [moving(index, size[1], size[0]) for index in range(len(times))],
        codec=codec,
        pixel_format=pixel_format,
        options={"crf": "4", "preset": "ultrafast"},
        times_ms=times,
        colour=colour,
        is_converted=True,
        audio=track if audio else None,
    )


def read_frames(path, form="rgb24"):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        return [frame.pts * stream.time_base for frame in frames], [frame.to_ndarray(format=form) for frame in frames]


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_a_variable_frame_rate_keeps_every_time(tmp_path, suffix):
    times = [0, 40, 73, 140, 141, 300, 333, 1000]
    source = write_clip(tmp_path / "in.mp4", times=times)

    report = enhance(source, tmp_path / f"out{suffix}", EnhanceOptions(audio=AudioMode.OFF))

    found, frames = read_frames(tmp_path / f"out{suffix}")
    assert found == read_frames(source)[0]
    assert len(found) == len(times)
    assert frames[0].shape == (256, 384, 3)
    assert report.picture.frames_in == report.picture.frames_out == len(times)
    assert report.picture.pts_equal
    assert report.warnings == ()


@pytest.mark.parametrize(
    ("name", "codec", "most"), [("a.mp4", "libx264", 6), ("a.mkv", "libx264", 7), ("a.ts", "libx264", 8)]
)
def test_a_source_is_opened_a_few_times_however_many_places_are_examined(tmp_path, monkeypatch, name, codec, most):
    """Planning opens it for the probe, the container check and samples; each reader opens its own."""
    source = write_clip(tmp_path / name, codec=codec, audio=True)
    opened, original = [], demux._open_container
    monkeypatch.setattr(demux, "_open_container", lambda path, *rest: opened.append(path) or original(path, *rest))

    enhance(source, tmp_path / "out.mkv", EnhanceOptions(preset="restore"))

    assert opened.count(source) <= most


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format", "container"),
    [
        ("film.gif", "gif", "rgb8", "gif"),
        ("film.png", "apng", "rgb24", "apng"),
        ("film.mjpeg", "mjpeg", "yuvj420p", "mjpeg"),
    ],
)
def test_an_animation_becomes_a_video_of_the_same_times(tmp_path, name, codec, pixel_format, container):
    with av.open(str(tmp_path / name), "w", format=container) as output:
        stream = output.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixel_format
        for index in range(6):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(moving(index, 48, 64), format="rgb24")))
        output.mux(stream.encode(None))

    enhance(tmp_path / name, tmp_path / "out.mp4", EnhanceOptions(preset="restore"))

    assert read_frames(tmp_path / "out.mp4")[0] == [Fraction(index, 25) for index in range(6)]


@pytest.mark.parametrize("colour", [(1, 1), (1, 2), (6, 1), (9, 1)], ids=["709", "709-full", "601", "2020"])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p", "yuv444p10le"])
def test_without_effect_the_video_is_the_source(tmp_path, colour, pixel_format):
    source = write_clip(tmp_path / "in.mkv", pixel_format=pixel_format, colour=colour)
    options = EnhanceOptions(preset="restore", audio=AudioMode.OFF, strength=0.0, crf=4)

    report = enhance(source, tmp_path / "out.mkv", options)

    depth = "rgb48le" if "10" in pixel_format else "rgb24"
    before, after = (np.stack(read_frames(path, depth)[1]).astype(float) for path in (source, tmp_path / "out.mkv"))
    scale = 65535 if "10" in pixel_format else 255
    inner = np.s_[:, 4:-4, 4:-4]
    error = np.abs(before - after)[inner] / scale
    assert error.mean() < 1.5 / 255
    assert np.abs((before - after)[inner].mean((0, 1, 2))).max() / scale < 0.6 / 255, "no cast of colour"
    assert report.picture.result.pixel_format == pixel_format


def test_ten_bits_stay_ten_bits(tmp_path):
    source = write_clip(tmp_path / "in.mkv", pixel_format="yuv420p10le", codec="libx265")

    report = enhance(source, tmp_path / "out.mkv", EnhanceOptions(codec=Codec.HEVC, audio=AudioMode.OFF, scale=2))

    with av.open(str(tmp_path / "out.mkv")) as container:
        frame = next(container.decode(video=0))
        luma = frame.to_ndarray()[: frame.height]
        assert frame.format.name == "yuv420p10le"
    assert report.picture.result.bits == 10
    assert len(np.unique(luma)) > 300, "more levels than eight bits have"


def test_audio_that_is_off_is_copied_bit_for_bit(tmp_path):
    source = write_clip(tmp_path / "in.mkv", audio=True)

    report = enhance(source, tmp_path / "out.mkv", RESTORE)

    audios = []
    for path in (source, tmp_path / "out.mkv"):
        with av.open(str(path)) as container:
            audios.append([(packet.pts, bytes(packet)) for packet in container.demux(audio=0) if packet.size])
    assert audios[0] == audios[1]
    assert [stream.action for stream in report.streams] == [Action.ENHANCED, Action.COPIED]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_audio_that_is_cleaned_has_as_many_samples_at_the_same_place(tmp_path, suffix):
    source = write_clip(tmp_path / f"in{suffix}", audio=True)

    report = enhance(source, tmp_path / f"out{suffix}", EnhanceOptions(preset="sound-only"))

    (audio,) = report.sound
    assert audio.samples_in == audio.samples_out >= 96000
    assert all(offset.before == offset.after for offset in report.av_offsets)
    assert [stream.action for stream in report.streams] == [Action.COPIED, Action.ENHANCED]
    assert read_frames(source)[0] == read_frames(tmp_path / f"out{suffix}")[0]


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_an_audio_file_is_a_job(tmp_path, suffix):
    source = tmp_path / f"in{suffix}"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("flac" if suffix == ".flac" else "pcm_s16le", rate=44100, layout="mono")
        samples = (np.random.default_rng(2).normal(0, 2000, (1, 50_001))).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate, frame.pts = 44100, 0
        stream.codec_context.format = "s16"
        for ready in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(ready)

    report = enhance(source, None, EnhanceOptions())

    result = tmp_path / f"in.relume{suffix}"
    assert report.result.path == str(result)
    assert report.picture is None
    with av.open(str(result)) as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) == 50_001
        assert container.streams.audio[0].sample_rate == 44100


def test_a_part_is_cut_at_its_times(tmp_path):
    source = write_clip(tmp_path / "in.mp4", times=range(0, 4000, 40), audio=True)
    options = EnhanceOptions(preset="restore", start=Fraction(1), end=Fraction(2))

    report = enhance(source, tmp_path / "out.mp4", options)

    times, _ = read_frames(tmp_path / "out.mp4")
    assert len(times) == 25
    assert times[0] == 0
    assert report.sound[0].samples_out == 48000


def test_scene_cuts_are_reported_and_the_comparison_is_drawn(tmp_path):
    source = tmp_path / "in.mp4"
    rng = np.random.default_rng(3)
    scenes = [np.kron(rng.integers(0, 255, (8, 12, 3)), np.ones((8, 8, 1))).astype(np.uint8) for _ in range(2)]
    media.write_clip(source, [scenes[index >= 7] for index in range(12)])

    report = enhance(source, tmp_path / "out.mp4", EnhanceOptions(scale=4, compare=tmp_path / "c.png"))

    assert report.picture.scene_cuts == (7,)
    assert (tmp_path / "c.png").stat().st_size > 1000


def test_cancelling_leaves_no_file_and_the_source_as_it_was(tmp_path):
    source = write_clip(tmp_path / "in.mp4", times=range(0, 20000, 40), audio=True)
    before = source.read_bytes()
    cancel = threading.Event()

    def stop_at_ten(progress):
        if progress.frames_done >= 10:
            cancel.set()

    with pytest.raises(CancelledError):
        enhance(source, tmp_path / "out.mp4", EnhanceOptions(), on_progress=stop_at_ten, cancel=cancel)

    assert list(tmp_path.iterdir()) == [source]
    assert source.read_bytes() == before
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("relume")]


@pytest.mark.parametrize(
    ("options", "target", "error", "message"),
    [
        (EnhanceOptions(), "in.mp4", OutputError, "is the source itself"),
        (
            EnhanceOptions(codec=Codec.FFV1),
            "out.mp4",
            OptionError,
            r"codec ffv1 cannot be stored in \.mp4; use",
        ),
        (EnhanceOptions(preset="sound-only"), "out.mp4", OptionError, "has no audio that can be read"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(tmp_path, options, target, error, message):
    source = write_clip(tmp_path / "in.mp4")

    with pytest.raises(error, match=message):
        enhance(source, tmp_path / target, options)

    assert list(tmp_path.iterdir()) == [source]


def test_a_frame_of_one_pixel_is_refused(tmp_path):
    source = write_clip(tmp_path / "in.mkv", size=(1, 1), codec="ffv1", pixel_format="yuv444p")

    with pytest.raises(UnsupportedMediaError, match="frames of 1x1, expected at least 16x16"):
        enhance(source, tmp_path / "out.mp4", EnhanceOptions())


def lose_a_frame(monkeypatch):
    """Patch the muxer to lose the third frame, as no known container does."""
    write, seen = Muxer._write, []

    def write_most(muxer, packet):
        seen.append(packet.stream.type == "video")
        if packet.stream.type == "video" and sum(seen) == 3:
            return
        write(muxer, packet)

    monkeypatch.setattr(Muxer, "_write", write_most)


@pytest.mark.parametrize("durable", [False, True])
def test_a_result_that_fails_verification_is_kept_under_a_telling_name(tmp_path, monkeypatch, durable):
    source = write_clip(tmp_path / "in.mp4")
    workspace = tmp_path / "work" if durable else None
    (tmp_path / "out.unverified.mp4").write_bytes(b"an earlier one")
    with monkeypatch.context() as patch:
        lose_a_frame(patch)
        with pytest.raises(VerificationError, match="24 frames were written, 23 are in the file") as raised:
            enhance(source, tmp_path / "out.mp4", RESTORE, workspace=workspace)

    assert not (tmp_path / "out.mp4").exists()
    kept = tmp_path / "out.unverified-2.mp4"
    assert raised.value.kept == kept
    assert str(kept) in str(raised.value)
    assert len(read_frames(kept)[0]) == 23
    assert raised.value.report.check_failures == ("24 frames were written, 23 are in the file",)
    assert raised.value.report.result.path == str(kept)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "in.mp4", "out.unverified-2.mp4", "out.unverified.mp4",
    ]  # fmt: skip

    report = enhance(source, tmp_path / "out.mp4", RESTORE, workspace=workspace)

    assert report.check_failures == ()
    assert len(read_frames(tmp_path / "out.mp4")[0]) == 24


@pytest.mark.parametrize("durable", [False, True])
def test_a_result_whose_check_fails_can_be_taken_as_it_is(tmp_path, monkeypatch, durable):
    source = write_clip(tmp_path / "in.mp4")
    lose_a_frame(monkeypatch)

    options = replace(RESTORE, keep_unverified=True)
    report = enhance(source, tmp_path / "out.mp4", options, workspace=tmp_path / "work" if durable else None)

    assert report.check_failures == ("24 frames were written, 23 are in the file",)
    assert len(read_frames(tmp_path / "out.mp4")[0]) == 23


def test_without_a_workspace_the_stored_segments_are_removed_as_they_are_merged(tmp_path, monkeypatch):
    source = write_clip(tmp_path / "in.mp4")
    left = []

    def note(muxer, *arguments):
        left.extend(path.name for path in tmp_path.rglob("*.packets"))
        return publish(muxer, *arguments)

    publish = Muxer.publish
    monkeypatch.setattr(Muxer, "publish", note)

    enhance(source, tmp_path / "out.mp4", RESTORE, rule=SegmentRule(5, 10))

    assert left == [], "a long job would take twice the room"
    assert {path.name for path in tmp_path.iterdir()} == {"in.mp4", "out.mp4"}
