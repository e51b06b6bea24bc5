import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.format import ContainerFormat

from runtime.errors import DecodeError, UnsupportedMediaError
from runtime.media import demux, webp
from runtime.media.containers import demuxers, media_suffixes
from runtime.media.demux import describe_unreadable, hold_source, open_source, read_packets
from runtime.media.probe import probe
from runtime.media.video_reader import VideoReader
from runtime.media.webp import release_converted

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("empty.mp4", b"", DecodeError, "is empty"),
        ("text.mp4", b"Dear diary, today I filmed nothing.\n" * 20, DecodeError, "is a text file"),
        ("noise.mp4", bytes(range(256)) * 40, DecodeError, "is not a media file"),
        ("photo.mp4", b"\x89PNG\r\n\x1a\n" + bytes(600), UnsupportedMediaError, "is a still image"),
        ("photo.heic", b"\0\0\0\x18ftypheic" + bytes(600), UnsupportedMediaError, "is a still image"),
        ("list.mp4", b"#EXTM3U\nhttp://example.org/a.ts\n", UnsupportedMediaError, "is a playlist"),
        ("list.txt", b"ffconcat version 1.0\nfile a.mp4\n", UnsupportedMediaError, "is a playlist"),
        ("talk.sdp", b"v=0\no=- 0 0 IN IP4 127.0.0.1\n", UnsupportedMediaError, "is a playlist"),
    ],
)
def test_what_is_no_media_file_is_refused_with_a_message(
    tmp_path: Path, name: str, content: bytes, error: type[Exception], message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(error, match=message):
        open_source(path)

    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "content",
    [
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:/etc/passwd\n",
        b'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="http://127.0.0.1:9/key"\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n',
        b"ffconcat version 1.0\nfile '/etc/passwd'\n",
        b"# comment\nffconcat version 1.0\nfile '/etc/passwd'\n",
        b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\nm=video 5004 RTP/AVP 96\r\n",
        b"<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'><BaseURL>file:/etc/</BaseURL></MPD>",
        b"<MPD type='static'></MPD>",
        b"[playlist]\nFile1=http://127.0.0.1:9/a.mp3\nNumberOfEntries=1\n",
        b"<asx version='3.0'><entry><ref href='http://127.0.0.1:9/a.asf'/></entry></asx>",
        b"rtsp://127.0.0.1:9/a\n",
        b"http://127.0.0.1:9/a.rm\n",
        b"<smil><body><video src='rtsp://127.0.0.1:9/a'/></body></smil>",
        b"RTSPtextRTSP://127.0.0.1:9/a.mov\r",
        b"subfile,,start,0,end,100,,:/etc/passwd\n",
        b"# VobSub index file, v7 (do not modify this line!)\nsize: 720x576\n",
        b"; FFMETADATA1\ntitle=a\n",
    ],
)
def test_lists_of_files_and_addresses_are_refused_whatever_they_are_called(tmp_path: Path, content: bytes) -> None:
    for name in ("clip.mp4", "clip.mp3", "clip.ts", "clip.sdp", "clip"):
        for front in (b"", b"\xef\xbb\xbf", b"\n \t"):
            (tmp_path / name).write_bytes(front + content)

            with pytest.raises((DecodeError, UnsupportedMediaError), match=r"is a playlist|is a text file"):
                open_source(tmp_path / name)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match="does not exist"):
        open_source(tmp_path / "none.mp4")
    with pytest.raises(DecodeError, match="is a folder"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(13, "Permission denied"), "Permission denied; check its permissions"),
        (BlockingIOError(11, "Resource temporarily unavailable"), "temporarily unavailable; try again"),
        (OSError(5, "Input/output error"), "the disk or the network drive may be failing"),
        (OSError(24, "Too many open files"), "too many files are open"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_what_to_do(error: OSError, message: str) -> None:
    assert message in describe_unreadable("a.mp4", error)
    assert ("permissions" in describe_unreadable("a.mp4", error)) == isinstance(error, PermissionError)


def test_an_mp4_cut_before_its_index_is_reported_as_cut(clip: Callable[..., Path]) -> None:
    path = clip("a.mp4")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    with pytest.raises(DecodeError, match="without its index"):
        open_source(path)


def test_a_name_that_looks_like_an_address_is_a_file(
    clip: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = clip("concat:a.mp4|b.mp4".replace("/", ""))
    monkeypatch.chdir(path.parent)

    assert probe(Path(path.name)).video is not None


def write_images(path: Path, codec: str, pixel_format: str, count: int, container: str | None = None) -> Path:
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 16, pixel_format
        for number in range(count):
            pixels = np.full((16, 32, 3), 20 * number, np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        output.mux(stream.encode(None))
    return path


def write_audio(path: Path, codec: str, container: str, rate: int, layout: str = "mono") -> Path:
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate, layout=layout, options={"strict": "-2"})
        context = stream.codec_context
        wave = np.repeat(0.3 * np.sin(np.arange(rate) / 20)[None], context.layout.nb_channels, axis=0)
        frame = av.AudioFrame.from_ndarray(wave.astype(np.float32), format="fltp", layout=layout)
        frame.sample_rate = rate
        context.open()
        resampler = av.AudioResampler(context.format.name, layout, rate, context.frame_size or None)
        for block in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(block))
        output.mux(stream.encode(None))
    return path


def write_dahua(path: Path, units: list[bytes]) -> Path:
    """Write the frames of a recorder: DHAV, with the length before and after, and the time of day."""
    content = bytearray()
    for number, unit in enumerate(units):
        extra = bytes([0x80, 0, 4, 2, 0x81, 0, 2, 10])
        length = 24 + len(extra) + len(unit) + 8
        date = 24 << 26 | 5 << 22 | 1 << 17 | 10 << 12 | 20 << 6 | 30
        kind = 0xFD if number == 0 else 0xFC
        head = b"DHAV" + struct.pack("<BBBBIIIHB", kind, 0, 0, 0, number, length, date, number * 100, len(extra))
        content += head + bytes([sum(head) & 255]) + extra + unit + b"dhav" + struct.pack("<I", length)
    path.write_bytes(content)
    return path


def coded_units() -> list[bytes]:
    context = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt, context.framerate = 32, 16, "yuv420p", 10
    context.options = {"x264-params": "bframes=0:repeat-headers=1", "tune": "zerolatency"}
    frames = [av.VideoFrame.from_ndarray(np.full((16, 32, 3), 20 * n, np.uint8), format="rgb24") for n in range(8)]
    return [bytes(packet) for frame in [*frames, None] for packet in context.encode(frame)]


@pytest.mark.parametrize(
    ("name", "codec", "container", "rate", "layout", "expected"),
    [
        ("memo.voc", "pcm_u8", "voc", 8000, "mono", ("voc", "pcm_u8")),
        ("memo.g722", "g722", "g722", 16000, "mono", ("g722", "adpcm_g722")),
        ("call.ul", "pcm_mulaw", "mulaw", 8000, "mono", ("mulaw", "pcm_mulaw")),
        ("air.latm", "aac", "latm", 48000, "stereo", ("loas", "aac_latm")),
        ("phone.sbc", "sbc", "sbc", 16000, "mono", ("sbc", "sbc")),
        ("old.au", "pcm_s16be", "au", 8000, "mono", ("au", "pcm_s16be")),
    ],
)
def test_audio_of_every_container_that_ffmpeg_reads_is_taken(
    tmp_path: Path, name: str, codec: str, container: str, rate: int, layout: str, expected: tuple[str, str]
) -> None:
    info = probe(write_audio(tmp_path / name, codec, container, rate, layout))

    assert (info.container, info.audios[0].codec) == expected
    assert (info.audios[0].sample_rate, info.audios[0].layout) == (rate, layout)


def test_a_nist_sphere_file_is_taken_although_it_begins_with_text(tmp_path: Path) -> None:
    header = "NIST_1A\n   1024\nchannel_count -i 1\nsample_rate -i 16000\nsample_n_bytes -i 2\n"
    header += "sample_byte_format -s2 01\nsample_sig_bits -i 16\nsample_coding -s3 pcm\nend_head\n"
    path = tmp_path / "corpus.sph"
    path.write_bytes(header.encode().ljust(1024) + np.arange(8000, dtype="<i2").tobytes())

    info = probe(path)

    assert (info.container, info.audios[0].codec, info.audios[0].sample_rate) == ("nistsphere", "pcm_s16le", 16000)


def test_a_recorders_dav_file_is_taken(tmp_path: Path) -> None:
    info = probe(write_dahua(tmp_path / "camera.dav", coded_units()))

    assert (info.container, info.videos[0].codec) == ("dhav", "h264")
    assert (info.videos[0].width, info.videos[0].height) == (32, 16)


def test_a_program_stream_with_an_mp4s_name_is_taken(tmp_path: Path) -> None:
    info = probe(write_images(tmp_path / "tape.mp4", "mpeg2video", "yuv420p", 4, "mpeg"))

    assert (info.container, info.videos[0].codec) == ("mpeg", "mpeg2video")


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format", "container"),
    [
        ("film.mjpeg", "mjpeg", "yuvj420p", "mjpeg"),
        ("film.gif", "gif", "rgb8", "gif"),
        ("film.png", "apng", "rgb24", "apng"),
    ],
)
def test_an_animation_is_video_and_a_single_image_is_refused(
    tmp_path: Path, name: str, codec: str, pixel_format: str, container: str
) -> None:
    film = write_images(tmp_path / name, codec, pixel_format, 5, container)

    with open_source(film) as opened:
        assert opened.format.name == container
        assert sum(packet.size > 0 for packet in read_packets(opened, opened.streams.video[0])) == 5
    single = write_images(tmp_path / f"one-{name}", codec, pixel_format, 1, container)
    with pytest.raises(UnsupportedMediaError, match=r"is a still image \((JPEG|GIF|PNG)\)"):
        open_source(single)


def write_webp(path: Path, durations: list[int], *, mode: str = "RGB", opacity: int = 255) -> Path:
    """Write an animated WebP of gray frames, each brighter than the last."""
    from PIL import Image

    frames = [
        Image.new(mode, (48, 32), (40 * number + 20,) * 3 + ((opacity,) if mode == "RGBA" else ()))
        for number in range(len(durations))
    ]
    more = {"save_all": True, "append_images": frames[1:], "duration": durations} if len(frames) > 1 else {}
    frames[0].save(path, lossless=True, **more)
    return path


@pytest.fixture
def unpacked() -> Iterator[None]:
    yield
    release_converted()


@pytest.mark.usefixtures("unpacked")
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize(
    ("declared", "shown"), [([40, 17, 100, 333, 5], [40, 17, 100, 333, 5]), ([0, 50, 0], [100, 50, 100])]
)
def test_an_animated_webp_gives_each_frame_at_its_time(
    tmp_path: Path, mode: str, declared: list[int], shown: list[int]
) -> None:
    path = write_webp(tmp_path / "film.webp", declared, mode=mode)

    info = probe(path)

    assert (info.container, info.size_bytes, info.duration) == ("webp", path.stat().st_size, Fraction(sum(shown), 1000))
    with VideoReader(path, info.videos[0]) as reader:
        images = list(reader)
    assert info.videos[0].time_base == Fraction(1, 1000)
    assert [image.pts for image in images] == [sum(shown[:number]) for number in range(len(shown))]
    assert [image.duration for image in images] == shown
    with open_source(path) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [np.unique(frame).tolist() for frame in frames] == [[40 * number + 20] for number in range(len(declared))]


@pytest.mark.usefixtures("unpacked")
def test_a_transparent_animated_webp_is_refused_as_every_video_with_alpha(tmp_path: Path) -> None:
    path = write_webp(tmp_path / "film.webp", [40, 40], mode="RGBA", opacity=128)
    video = probe(path).videos[0]

    with (
        pytest.raises(UnsupportedMediaError, match=r"its frame at 0\.000 s is not opaque"),
        VideoReader(path, video) as reader,
    ):
        list(reader)


def test_an_animated_webp_is_unpacked_once_and_the_space_is_freed(tmp_path: Path) -> None:
    path, other = (write_webp(tmp_path / name, [40, 50]) for name in ("film.webp", "other.webp"))
    with hold_source(path):
        probe(path)
        (first,) = webp._converted.values()
        probe(path)
        assert list(webp._converted.values()) == [first]
        probe(other)
        assert len(webp._converted) == 1, "one at a time"
    assert not webp._converted
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(first)


def test_a_webp_that_is_not_video_is_reported_as_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedMediaError, match=r"is a still image \(WebP\)"):
        open_source(write_webp(tmp_path / "one.webp", [40]))
    cut = write_webp(tmp_path / "cut.webp", [40, 40, 40])
    cut.write_bytes(cut.read_bytes()[:-20])
    with pytest.raises(DecodeError, match="is an animated WebP that is incomplete"):
        open_source(cut)
    large = write_webp(tmp_path / "large.webp", [40, 40])
    data = bytearray(large.read_bytes())
    data[24:30] = b"\xfe\x3f\x00" * 2  # 16383x16383
    large.write_bytes(data)
    with pytest.raises(UnsupportedMediaError, match="more than 8192x8192 pixels"):
        open_source(large)


@pytest.mark.parametrize(
    "text",
    [
        ("Grüße aus Köln.\n" * 40).encode(),
        ("Grüße, ohne Film. " * 40).encode("latin-1"),
        ("x" + "Добрый день " * 60).encode(),
        ("xx" + "今日は撮影しません " * 60).encode(),
        ("Hallo\n" * 40).encode("utf-16"),
    ],
)
@pytest.mark.parametrize("name", ["notes.txt", "notes.g722", "notes.mp3", "notes.flac"])
def test_text_is_reported_as_text_whatever_its_suffix(tmp_path: Path, text: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(text)

    with pytest.raises(DecodeError, match="is a text file"):
        open_source(tmp_path / name)


@pytest.mark.parametrize("name", ["noise.mp3", "noise.mp4", "noise.dts", "noise.mjpeg", "noise.bin"])
def test_noise_is_no_recording_whatever_its_suffix(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(np.random.default_rng(3).bytes(40_000))

    with pytest.raises(DecodeError, match=r"not a media file|without its index"):
        open_source(tmp_path / name)


def test_an_audio_file_behind_a_tag_longer_than_what_is_examined_is_taken(tmp_path: Path) -> None:
    audio = write_audio(tmp_path / "song.mp3", "libmp3lame", "mp3", 48000)
    size = 3 << 20
    tag = b"ID3\x03\0\0" + bytes((size >> shift) & 127 for shift in (21, 14, 7, 0))
    audio.write_bytes(tag + bytes(size) + audio.read_bytes())

    assert probe(audio).audios[0].sample_rate == 48000


def test_encrypted_files_are_reported_as_encrypted(clip: Callable[..., Path]) -> None:
    key = {
        "encryption_scheme": "cenc-aes-ctr",
        "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
        "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
    }
    for name, more in (("plain.mp4", {}), ("pieces.mp4", {"movflags": "frag_keyframe+empty_moov"})):
        path = clip(name, audio="aac", container_options={**key, **more})
        with pytest.raises(UnsupportedMediaError, match=f"{name} is encrypted"):
            open_source(path)


def element(code: str, content: bytes) -> bytes:
    """Write a Matroska element."""
    return bytes.fromhex(code) + (1 << 56 | len(content)).to_bytes(8, "big") + content


def number(value: int) -> bytes:
    return value.to_bytes(4, "big")


def test_an_encrypted_webm_is_reported_as_encrypted(tmp_path: Path) -> None:
    scheme = element("5035", element("47E1", number(5)) + element("47E2", bytes(range(16))))
    encodings = element("6D80", element("6240", element("5033", number(1)) + scheme))
    facts = element("D7", number(1)) + element("73C5", number(1)) + element("83", number(1)) + element("86", b"V_VP8")
    size = element("E0", element("B0", number(64)) + element("BA", number(48)))
    tracks = element("1654AE6B", element("AE", facts + size + encodings))
    info = element("1549A966", element("2AD7B1", number(1_000_000)))
    cluster = element("1F43B675", element("E7", number(0)) + element("A3", b"\x81\0\0\x80\x01" + bytes(200)))
    head = element("1A45DFA3", element("4282", b"webm") + element("4287", number(4)) + element("4285", number(2)))
    (tmp_path / "film.webm").write_bytes(head + element("18538067", info + tracks + cluster))

    with pytest.raises(UnsupportedMediaError, match=r"film\.webm is encrypted"):
        open_source(tmp_path / "film.webm")


@pytest.mark.parametrize(("share", "is_refused"), [(1.0, True), (0.5, False)])
def test_a_scrambled_transport_stream_is_reported_as_encrypted(
    clip: Callable[..., Path], share: float, is_refused: bool
) -> None:
    """A stream that a receiver could descramble after a while is not."""
    path = clip("air.ts")
    content = bytearray(path.read_bytes())
    for begin in range(0, int(len(content) * share), 188):
        if 0x100 <= (content[begin + 1] & 0x1F) << 8 | content[begin + 2] < 0x1000:
            content[begin + 3] |= 0x80
    path.write_bytes(content)

    if is_refused:
        with pytest.raises(UnsupportedMediaError, match=r"air\.ts is encrypted"):
            open_source(path)
    else:
        open_source(path).close()


def test_more_streams_than_any_video_has_are_refused(tmp_path: Path) -> None:
    for kind, codec, count in (("video", "mpeg4", 33), ("audio", "pcm_s16le", 33)):
        path = tmp_path / f"{kind}.mkv"
        with av.open(str(path), "w") as output:
            streams = [output.add_stream(codec, rate=25 if kind == "video" else 8000) for _ in range(count)]
            if kind == "video":
                for stream in streams:
                    stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
            for stream in streams:
                if kind == "video":
                    frame = av.VideoFrame(16, 16, "yuv420p")
                else:
                    frame = av.AudioFrame("s16", "stereo", 80)
                    frame.sample_rate = 8000
                for packet in [*stream.encode(frame), *stream.encode(None)]:
                    output.mux(packet)

        with pytest.raises(UnsupportedMediaError, match=f"has 33 {kind} streams, expected at most 32"):
            open_source(path)


def test_a_transport_stream_with_a_hole_is_read_to_its_end(clip: Callable[..., Path]) -> None:
    path = clip("air.ts")
    content = path.read_bytes()
    hole = 20_000 * 188
    path.write_bytes(content + bytes(hole) + content)

    with open_source(path) as container:
        packets = [packet for packet in read_packets(container, container.streams.video[0]) if packet.size]

    assert len(packets) >= 2 * 25 - 1  # one touches the edge of the hole


def test_no_demuxer_opens_devices_or_networks_or_lists_of_files() -> None:
    refused = {"concat", "hls", "sdp", "rtsp", "rtp", "sap", "image2", "lavfi", "vobsub", "webm_dash_manifest", "tty"}
    assert refused.isdisjoint(demuxers())
    assert {"mov", "matroska", "dhav", "voc", "mjpeg", "gif", "apng"} <= set(demuxers())
    for name in demuxers():
        assert not ContainerFormat(name, "r").flags & 1, name
        assert not name.endswith("_pipe")
    assert {".mp4", ".wma", ".m4b", ".dav", ".divx", ".aifc", ".spx"} <= media_suffixes()
    assert {".txt", ".png", ".jpg", ".heic", ".srt", ".idx", ".m3u8", ".nfo"}.isdisjoint(media_suffixes())


@pytest.mark.parametrize("demuxer", ["concat", "hls", "sdp", "webm_dash_manifest", "vobsub", "image2", "mlv", "rtsp"])
def test_a_demuxer_that_would_open_another_file_cannot(
    tmp_path: Path, clip: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, demuxer: str
) -> None:
    """Even one missing from the list: the only protocol is that of the descriptor that is already open."""
    other = clip("secret.ts")
    os.utime(other, ns=(1, 1))
    lists = {
        "concat": f"ffconcat version 1.0\nfile '{other.name}'\n",
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:{other}\n#EXT-X-ENDLIST\n",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    }
    path = tmp_path / "crafted.mp4"
    path.write_text(lists.get(demuxer, f"# VobSub index file, v7\n{other}\n"))
    monkeypatch.setattr(demux, "demuxers", lambda: (demuxer, "mpegts"))
    handle = os.open(path, os.O_RDONLY)

    try:
        with pytest.raises(av.FFmpegError):
            demux._open_as(handle, demuxer)
    finally:
        os.close(handle)

    assert os.stat(other).st_atime_ns == 1


EVERY_DEMUXER = """
import os, sys
import av
from runtime.media.containers import demuxers
from runtime.media.demux import _open_as
for path in sys.argv[1:]:
    for demuxer in demuxers():
        handle = os.open(path, os.O_RDONLY)
        try:
            with _open_as(handle, demuxer) as container:
                for packet, _ in zip(container.demux(), range(3)):
                    pass
        except av.FFmpegError:
            pass
        os.close(handle)
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_no_demuxer_opens_a_second_file_or_a_socket(tmp_path: Path, clip: Callable[..., Path]) -> None:
    """Whatever the file claims to be: each demuxer gets each of these."""
    bait = tmp_path / "bait.ts"
    crafted = {
        "hls.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:{bait}\n".encode(),
        "concat.mp4": f"ffconcat version 1.0\nfile '{bait}'\n".encode(),
        "mlv.MLV": b"MLVI" + struct.pack("<I", 52) + b"v2.0\0\0\0\0" + bytes(400),
        "sdp.mp4": b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\nc=IN IP4 127.0.0.1\r\nm=video 5004 RTP/AVP 96\r\n",
        "bytes.mp4": bytes(range(256)) * 16,
    }
    for name, content in crafted.items():
        (tmp_path / name).write_bytes(content)
    paths = [str(clip("a.mp4")), *(str(tmp_path / name) for name in crafted)]
    bait.write_bytes(b"secret")
    program = [sys.executable, "-c", EVERY_DEMUXER, *paths]
    trace = tmp_path / "trace"

    calls = "trace=open,openat,openat2,socket,connect"
    subprocess.run(["strace", "-f", "-e", calls, "-o", str(trace), *program], check=True, cwd=ROOT, timeout=300)

    lines = trace.read_text().splitlines()
    begun = next(number for number, line in enumerate(lines) if f'"{paths[0]}"' in line)
    opened = [line for line in lines[begun:] if "ENOENT" not in line and not any(f'"{path}"' in line for path in paths)]
    # Only Python's own modules and the kernel's tables may be read meanwhile.
    assert [line for line in opened if "socket(" in line or "connect(" in line] == []
    assert [line for line in opened if str(tmp_path) in line] == []
    assert sum(f'"{path}"' in line for line in lines for path in paths) == len(paths) * len(demuxers())


def test_a_held_source_stays_the_file_that_was_chosen(tmp_path: Path, clip: Callable[..., Path]) -> None:
    path, other = clip("a.mp4", width=64), clip("b.mp4", width=32)
    facts = path.stat()

    with hold_source(path, below=tmp_path, size=facts.st_size, mtime_ns=facts.st_mtime_ns):
        path.unlink()
        path.symlink_to(other)
        assert probe(path).videos[0].width == 64
        with hold_source(path):
            assert probe(path).videos[0].width == 64
        assert probe(path).videos[0].width == 64
    assert probe(path).videos[0].width == 32
    with pytest.raises(DecodeError, match="it is a link, expected a file"), hold_source(path, below=tmp_path):
        pass
    with pytest.raises(DecodeError, match="changed since it was selected"), hold_source(other, size=3):
        pass


def test_a_pipe_in_the_place_of_a_source_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")

    with pytest.raises(DecodeError, match="it is a pipe, expected a file"):
        open_source(tmp_path / "a.mp4")


def test_no_descriptor_is_left_open(tmp_path: Path, clip: Callable[..., Path]) -> None:
    path = clip("a.mp4")
    (tmp_path / "b.mp4").write_bytes(b"nothing")
    before = len(os.listdir("/proc/self/fd"))

    open_source(path).close()
    with pytest.raises(DecodeError):
        open_source(tmp_path / "b.mp4")

    assert len(os.listdir("/proc/self/fd")) == before
