"""Preview proxies: the same times and size on both sides, for every kind of source."""

import threading
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest
from PIL import Image

from appliance.jobs import previews
from appliance.jobs.previews import Pair, write_audio_proxies, write_thumbnail, write_video_proxies
from runtime.enhance import enhance
from runtime.errors import CancelledError
from runtime.options import EnhanceOptions


def write(path, *, size=(64, 48), times=range(0, 480, 40), rotation=0, aspect=None, sound_at=None, codec="libx264"):
    """Write a video with frames at times in milliseconds; audio starts at a time in milliseconds."""
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=25, options={"preset": "veryfast"} if codec == "libx264" else {})
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        video.codec_context.time_base = video.time_base = Fraction(1, 1000)
        if aspect is not None:
            video.codec_context.sample_aspect_ratio = aspect
        if rotation:
            video.set_display_rotation(rotation)
        audio = container.add_stream("aac", rate=44100, layout="mono") if sound_at is not None else None
        container.start_encoding()
        for number, time in enumerate(times):
            pixels = np.stack([x * 2 + 9 * number, y * 3, x + y], -1).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            tone = (0.3 * np.sin(np.arange(13_000) / 20)).astype(np.float32)
            for start in range(0, tone.size, 1024):
                frame = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], format="fltp", layout="mono")
                frame.sample_rate, frame.pts = 44100, start + sound_at * 44100 // 1000
                frame.time_base = Fraction(1, 44100)
                container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
    return path


def look(path):
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        frames = list(container.decode(video))
        return {
            "times": [round(float(frame.pts * video.time_base), 4) for frame in frames],
            "size": (frames[0].width, frames[0].height),
            "aspect": video.sample_aspect_ratio,
            "rotation": round(frames[0].rotation) % 360,
        }


def read(path, pixels="gray"):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format=pixels) for frame in container.decode(container.streams.video[0])]


def compare(tmp_path, source, *, options=None, stop=None):
    options = options or EnhanceOptions(preset="restore")
    report = enhance(source, tmp_path / "result.mkv", options)
    pair = Pair(source, tmp_path / "result.mkv", options.start, options.end)
    names = {"before": "mp4", "after": "mp4", "still_before": "jpg", "still_after": "jpg"}
    files = SimpleNamespace(**{name: tmp_path / f"{name}.{suffix}" for name, suffix in names.items()})
    write_video_proxies(pair, report, files, threads=1, stop=stop or threading.Event())
    return look(files.before), look(files.after)


def test_variable_times_that_begin_late_are_the_same_on_both_sides(tmp_path):
    times = [500, 540, 573, 640, 641, 800, 833]

    before, after = compare(tmp_path, write(tmp_path / "in.mkv", times=times))

    assert before == after
    assert before["times"] == pytest.approx([(time - 500) / 1000 for time in times], abs=1e-3)


def test_pixels_become_square_and_a_rotation_stays(tmp_path):
    source = write(tmp_path / "in.mp4", aspect=Fraction(16, 15), rotation=90)

    before, after = compare(tmp_path, source)

    assert before == after
    assert before["size"] == (68, 48)
    assert before["aspect"] in (None, 1)
    assert before["rotation"] == 90


def test_stills_of_the_middle_are_upright_and_show_the_same_frame(tmp_path):
    compare(tmp_path, write(tmp_path / "in.mp4", aspect=Fraction(16, 15), rotation=90))

    before, after = (Image.open(tmp_path / f"still_{side}.jpg") for side in ("before", "after"))
    assert before.size == after.size == (48, 68)
    frames = [Image.fromarray(frame).resize((68, 48)) for frame in read(tmp_path / "in.mp4", "rgb24")]
    frames = [frame.rotate(90, expand=True) for frame in frames]
    for image in (before, after):
        shown = np.asarray(image, int)
        differences = [np.abs(shown - np.asarray(frame, int)).mean() for frame in frames]
        assert np.argmin(differences) in (5, 6)


def test_a_part_of_the_source_is_compared_with_itself(tmp_path):
    source = write(tmp_path / "in.mp4", times=range(0, 800, 40))

    options = EnhanceOptions(preset="restore", start=Fraction(2, 5), end=Fraction(3, 5))
    before, after = compare(tmp_path, source, options=options)

    assert before == after
    assert len(before["times"]) == 5
    differences = [
        np.abs(first.astype(int) - second).mean()
        for first, second in zip(read(tmp_path / "before.mp4"), read(tmp_path / "after.mp4"), strict=True)
    ]
    assert max(differences) < 6


def test_a_large_frame_is_scaled_to_fit(tmp_path, monkeypatch):
    monkeypatch.setattr(previews, "MAX_SIDE", 80)
    before, after = compare(
        tmp_path, write(tmp_path / "in.mp4", times=[0, 40]), options=EnhanceOptions(preset="upscale", scale=2)
    )

    assert before == after
    assert before["size"] == (80, 60)


def test_no_more_than_the_beginning_is_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(previews, "PROXY_S", Fraction(1, 4))

    before, after = compare(tmp_path, write(tmp_path / "in.mp4"))

    assert before == after
    assert len(before["times"]) == 7


def loud_from(path):
    with av.open(str(path)) as container:
        samples = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(container.streams.audio[0])])
    return np.flatnonzero(np.abs(samples) > 0.1)[0] / 48000


def test_audio_keeps_its_offset_to_the_video(tmp_path):
    source = write(tmp_path / "in.mkv", times=range(200, 680, 40), sound_at=400)

    compare(tmp_path, source, options=EnhanceOptions(preset="restore", strength=0.0))

    # Audio begins 0.2 s after the first frame.
    for name in ("before.mp4", "after.mp4"):
        assert loud_from(tmp_path / name) == pytest.approx(0.2, abs=0.03)


def test_nothing_is_left_when_it_is_stopped(tmp_path):
    stop = threading.Event()
    stop.set()

    with pytest.raises(CancelledError):
        compare(tmp_path, write(tmp_path / "in.mp4", sound_at=0), stop=stop)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "result.mkv"]


def test_a_video_without_audio_has_no_audio_to_compare(tmp_path):
    source = write(tmp_path / "in.mp4")
    report = enhance(source, tmp_path / "result.mp4", EnhanceOptions(preset="restore"))

    paths = tmp_path / "a.m4a", tmp_path / "b.m4a"
    write_audio_proxies(Pair(source, tmp_path / "result.mp4"), report, *paths, stop=threading.Event())

    assert not any(path.exists() for path in paths)


@pytest.mark.parametrize("layout", ["7.1", "12 channels"])
def test_audio_of_many_channels_is_cleaned_and_compared(tmp_path, layout):
    channels = av.AudioLayout(layout).nb_channels
    source = tmp_path / "in.wav"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=48000, layout=layout)
        samples = np.full((1, channels * 24_000), 4000, np.int16)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout=layout)
        frame.sample_rate, frame.pts = 48000, 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    report = enhance(source, tmp_path / "result.wav", EnhanceOptions())

    paths = tmp_path / "a.m4a", tmp_path / "b.m4a"
    write_audio_proxies(Pair(source, tmp_path / "result.wav"), report, *paths, stop=threading.Event())

    assert (report.sound[0].channels, report.sound[0].samples_out) == (channels, 24_000)
    for path in paths:
        with av.open(str(path)) as container:
            assert sum(frame.samples for frame in container.decode(audio=0)) >= 24_000


def test_a_thumbnail_is_small_and_the_right_way_up(tmp_path):
    from PIL import Image

    source = write(tmp_path / "in.mp4", size=(640, 320), rotation=90)

    assert write_thumbnail(source, tmp_path / "t.jpg")

    with Image.open(tmp_path / "t.jpg") as image:
        assert image.format == "JPEG"
        assert image.size == (120, 240)


@pytest.mark.parametrize(
    ("aspect", "size"), [(143, (320, 30)), (Fraction(1, 143), (40, 240)), (Fraction(16, 11), (320, 165))]
)
def test_a_thumbnail_is_not_stretched_without_bounds(tmp_path, aspect, size):
    from PIL import Image

    source = write(tmp_path / "in.mkv", size=(640, 480), aspect=Fraction(aspect))

    assert write_thumbnail(source, tmp_path / "t.jpg")

    with Image.open(tmp_path / "t.jpg") as image:
        assert image.size == size
