import os
import re
import struct

import av
import numpy as np
import pytest
from PIL import Image

from appliance.console import format_bytes
from appliance.jobs.job import options_to_json
from appliance.watch import integrity
from appliance.watch.declared_size import missing_bytes
from appliance.watch.errors import UnreadableError
from appliance.watch.integrity import check_media, check_whole
from appliance.watch.integrity_process import answer
from appliance.watch.scan import is_wanted
from runtime.errors import DecodeError, OptionError, RelumeError, UnsupportedMediaError
from runtime.media import webp
from runtime.media.probe import probe
from runtime.options import EnhanceOptions

KINDS = [".mp4", ".mov", ".mkv", ".avi", ".ts", ".wav", ".flac", ".mp3", ".ogg", ".mka"]


@pytest.mark.parametrize("suffix", KINDS)
def test_a_complete_file_of_each_kind_passes_and_determines_the_suffix_of_its_result(suffix, tmp_path, make_media):
    path = make_media(tmp_path / f"clip{suffix}")

    found = check_media(path, EnhanceOptions())

    assert found == {".avi": ".mp4", ".ts": ".mp4"}.get(suffix, suffix)
    assert missing_bytes(path) == 0


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi", ".wav", ".mka", ".ogg"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_file_that_is_truncated_is_refused(suffix, share, tmp_path, make_media):
    path = make_media(tmp_path / f"clip{suffix}")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])

    with pytest.raises(RelumeError, match=r"incomplete|cut short|never finished"):
        check_media(path, EnhanceOptions())


def test_a_video_with_its_index_in_front_is_refused_without_its_end(tmp_path, make_media):
    data = make_media(tmp_path / "clip.mp4").read_bytes()
    position, boxes = 0, {}
    while position < len(data):
        (length,) = struct.unpack_from(">I", data, position)
        boxes[data[position + 4 : position + 8]] = data[position : position + length]
        position += length
    moov = bytearray(boxes[b"moov"])
    at = moov.index(b"stco") + 12
    (offset,) = struct.unpack_from(">I", moov, at)
    struct.pack_into(">I", moov, at, offset + len(moov))
    path = tmp_path / "streamed.mp4"
    whole = boxes[b"ftyp"] + bytes(moov) + boxes[b"free"] + boxes[b"mdat"]
    path.write_bytes(whole)
    assert check_media(path, EnhanceOptions()) == ".mp4"

    path.write_bytes(whole[:-100])

    with pytest.raises(
        UnreadableError,
        match=re.escape(f"file is incomplete ({format_bytes(len(whole) - 100)} of {format_bytes(len(whole))}); copy"),
    ):
        check_media(path, EnhanceOptions())


def test_audio_that_ends_early_is_refused_although_its_container_declares_no_size(tmp_path, make_media):
    path = make_media(tmp_path / "long.flac", samples=48000 * 8)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])

    with pytest.raises(UnreadableError, match=r"declares 8\.0 s, but ends after|cannot be decoded|cut off"):
        check_whole(path, list(probe(path).audios))


@pytest.mark.parametrize(("frames", "samples"), [(75, 16_000), (25, 48_000 * 4)])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts"])
def test_a_track_that_is_shorter_than_another_is_whole(suffix, frames, samples, tmp_path, make_media):
    path = make_media(tmp_path / f"clip{suffix}", frames=frames, audio=True, samples=samples)

    assert check_media(path, EnhanceOptions(preset="restore"))


def test_a_stream_that_lost_a_packet_is_refused_as_the_job_would(tmp_path, make_media):
    path = make_media(tmp_path / "clip.ts", frames=40)
    data = path.read_bytes()
    lost = 188 * (len(data) // 188 // 2)
    path.write_bytes(data[:lost] + data[lost + 188 :])

    with pytest.raises(UnreadableError, match=r"packets of stream 0 are missing in 1 of its frames"):
        check_media(path, EnhanceOptions())


def test_a_joint_of_two_recordings_is_not_damage(tmp_path, make_media):
    path = make_media(tmp_path / "clip.ts", frames=40)
    path.write_bytes(path.read_bytes() * 2)

    assert check_media(path, EnhanceOptions()) == ".mp4"


@pytest.mark.parametrize("junk", [b"\xff", b"x" * 3000, bytes(100_000)])
def test_junk_behind_the_audio_is_not_damage(junk, tmp_path, make_media):
    path = make_media(tmp_path / "clip.mp3", samples=48_000)
    path.write_bytes(path.read_bytes() + junk)

    assert check_media(path, EnhanceOptions()) == ".mp3"


def test_a_stream_without_a_key_frame_near_its_end_is_decoded_from_further_back(tmp_path, make_media):
    options = {"x265-params": "log-level=none:keyint=200:min-keyint=200:scenecut=0"}
    path = make_media(tmp_path / "clip.ts", frames=790, codec="libx265", options=options)

    assert check_media(path, EnhanceOptions()) == ".mp4"


def test_a_long_file_that_declares_no_end_is_not_decoded_whole(tmp_path, make_media, monkeypatch):
    path = tmp_path / "live.mkv"
    # A live recording: no length in the header, no index.
    make_media(path, frames=800, container_options={"live": "1"})
    decoded = []
    monkeypatch.setattr(integrity._LastPackets, "decode", lambda last, _: decoded.extend((*last._before, *last._now)))

    assert check_media(path, EnhanceOptions()) == ".mkv"
    assert 10 < len(decoded) < 520


def test_a_file_declared_complete_is_only_opened(tmp_path, make_media):
    path = make_media(tmp_path / "clip.wav")
    path.write_bytes(path.read_bytes()[:-2000])

    assert check_media(path, EnhanceOptions(), is_declared=True) == ".wav"


@pytest.mark.parametrize(
    ("name", "data", "kind", "words"),
    [
        ("empty.mp4", b"", DecodeError, "is empty"),
        ("text.mp4", b"not a film at all " * 40, DecodeError, "is a text file"),
        ("noise.mkv", bytes(range(256)) * 20, DecodeError, "is not a media file"),
        ("picture.mp4", b"\x89PNG\r\n\x1a\n" + bytes(100), UnsupportedMediaError, "is a still image"),
        ("list.mp4", b"#EXTM3U\nhttp://elsewhere/film.ts\n", UnsupportedMediaError, "is a playlist"),
        ("concat.mp4", b"ffconcat version 1.0\nfile /etc/passwd\n", UnsupportedMediaError, "is a playlist"),
    ],
)
def test_a_file_that_is_not_video_is_named_as_what_it_is(name, data, kind, words, tmp_path):
    (tmp_path / name).write_bytes(data)

    with pytest.raises(kind, match=words):
        check_media(tmp_path / name, EnhanceOptions())


def test_a_preset_that_does_not_fit_the_file_is_reported_before_the_job(tmp_path, make_media):
    with pytest.raises(OptionError, match="no audio that can be read"):
        check_media(make_media(tmp_path / "silent.mp4"), EnhanceOptions(preset="sound-only"))


@pytest.mark.parametrize(
    "data",
    [
        b"\x1aE\xdf\xa3" + b"\xff" * 40,
        b"\x1aE\xdf\xa3\x80\x00",
        b"RIFF\xff\xff\xff\xffWAVE" + bytes(40),
        b"RIFF\x00\x00\x00\x00WAVE" + bytes(40),
        b"\x00\x00\x00\x00mdat" + bytes(40),
        b"\x00\x00\x00\x01mdat" + bytes(2),
        b"RIFF",
        b"OggS but no page of it, " * 4 + b"Ogg" * 40,
    ],
)
def test_headers_that_tell_no_size_are_taken_as_they_are(data, tmp_path):
    (tmp_path / "x").write_bytes(data)

    assert missing_bytes(tmp_path / "x") == 0


def test_a_file_that_is_truncated_is_reported_with_both_sizes(tmp_path, make_media):
    path = make_media(tmp_path / "long.wav", samples=75_000)
    path.write_bytes(path.read_bytes()[:60_000])

    with pytest.raises(UnreadableError) as refused:
        check_media(path, EnhanceOptions())

    assert str(refused.value) == "file is incomplete (60 kB of 150 kB); copy it again"


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.w64", "pcm_s16le", {}),
        ("a.caf", "pcm_s16le", {}),
        ("a.au", "pcm_s16be", {}),
        ("a.wma", "wmav2", {}),
        ("a.wav", "pcm_s16le", {"rf64": "always"}),
    ],
)
def test_audio_files_declare_their_length_in_their_own_way(name, codec, options, tmp_path):
    path = tmp_path / name
    with av.open(str(path), "w", container_options=options) as output:
        stream = output.add_stream(codec, rate=48000, layout="stereo")
        stream.bit_rate = 128_000
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 48000), np.float32), format="fltp", layout="stereo")
        frame.sample_rate = 48000
        stream.codec_context.open()
        resampler = av.AudioResampler(stream.format.name, "stereo", 48000, stream.codec_context.frame_size or None)
        for block in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(block))
        output.mux(stream.encode(None))
    assert missing_bytes(path) == 0
    check_media(path, EnhanceOptions())
    whole = path.stat().st_size

    os.truncate(path, whole * 9 // 10)

    assert missing_bytes(path) == pytest.approx(whole - whole * 9 // 10, abs=8)
    with pytest.raises(UnreadableError, match="file is incomplete"):
        check_media(path, EnhanceOptions())


def test_an_animated_webp_is_accepted_and_a_single_image_skipped(tmp_path):
    frames = [Image.new("RGB", (48, 32), (60 * number, 0, 0)) for number in range(3)]
    frames[0].save(tmp_path / "film.webp", save_all=True, append_images=frames[1:], duration=[40, 500, 40])
    frames[0].save(tmp_path / "one.webp")
    assert is_wanted("film.webp", include=(), exclude=())

    found = {
        path.name: answer({"path": str(path), "options": options_to_json(EnhanceOptions()), "is_declared": False})
        for path in (tmp_path / "film.webp", tmp_path / "one.webp")
    }

    assert found["film.webp"] == {"suffix": ".mp4"}
    assert found["one.webp"]["reason"].endswith("one.webp is a still image (WebP), expected a video or audio file")
    assert not webp._converted, "nothing is kept between files"


def test_an_animated_webp_that_is_truncated_is_reported_with_both_sizes(tmp_path):
    path = tmp_path / "film.webp"
    noise = np.random.default_rng(1).integers(0, 255, (4, 32, 48, 3), np.uint8)
    frames = [Image.fromarray(one) for one in noise]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=40, lossless=True)
    path.write_bytes(path.read_bytes()[:-3000])

    with pytest.raises(UnreadableError, match=r"file is incomplete \(.* of .*\); copy it again"):
        check_media(path, EnhanceOptions())
