"""What containers state about the frames of a track is in the result: pixel shape, stereo 3D, spherical, cropping."""

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest

from runtime.enhance import enhance
from runtime.media.matroska_header import FILLER, amend_matroska, read_matroska_tracks
from runtime.media.media_info import Crop, DolbyVision, Shape, Spherical, Stereo
from runtime.media.mp4_header import amend_mp4
from runtime.media.probe import probe
from runtime.options import AudioMode, Codec, EnhanceOptions
from runtime.report import Action

SHAPE = Shape(Fraction(8, 9), Stereo(2), Spherical(0, yaw=30 << 16, pitch=-5 << 16))
RESTORE = EnhanceOptions(preset="restore", audio=AudioMode.OFF)


def amended(path: Path, shape: Shape) -> Path:
    """Write a shape into a clip that was written with a filler, or an MP4."""
    if path.suffix in (".mp4", ".mov"):
        amend_mp4(path, [shape])
    else:
        amend_matroska(path, [shape], is_webm=path.suffix == ".webm")
    return path


def shape_of(path: Path) -> Shape:
    video = probe(path).video
    assert video is not None
    return video.shape


def insert_box(path: Path, new: bytes, *names: bytes) -> None:
    """Append a box at the end of nested boxes of an MP4 whose index lies behind its media."""
    data = bytearray(path.read_bytes())
    begin, parents, skips = 0, [], {b"stsd": 16, b"avc1": 86, b"hev1": 86}
    for name in names:
        while data[begin + 4 : begin + 8] != name:
            begin += struct.unpack_from(">I", data, begin)[0]
        parents.append(begin)
        end = begin + struct.unpack_from(">I", data, begin)[0]
        begin += skips.get(name, 8)
    data[end:end] = new
    for place in parents:
        struct.pack_into(">I", data, place, struct.unpack_from(">I", data, place)[0] + len(new))
    path.write_bytes(data)


ENTRY = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1")


def clap(width: int, height: int, right: int = 0, down: int = 0) -> bytes:
    return struct.pack(">I4s8i", 40, b"clap", width, 1, height, 1, right, 2, down, 2)


@pytest.mark.parametrize("target", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("source", [".mp4", ".mkv"])
@pytest.mark.parametrize("preset", ["restore", "copy"])
def test_shapes_are_in_the_result(
    clip: Callable[..., Path], tmp_path: Path, source: str, target: str, preset: str
) -> None:
    path = amended(clip(f"a{source}", tags={"title": FILLER} if source == ".mkv" else {}, audio="aac"), SHAPE)
    assert shape_of(path) == SHAPE

    options = RESTORE if preset == "restore" else EnhanceOptions(preset="sound-only")
    report = enhance(path, tmp_path / f"b{target}", options)

    assert shape_of(tmp_path / f"b{target}") == SHAPE
    parts = {part.what: part.action for part in report.parts}
    assert parts["stereo 3D (top and bottom)"] is Action.COPIED
    assert parts["spherical projection (equirectangular)"] is Action.COPIED
    assert not any(what.startswith("pixel shape") for what in parts)
    with av.open(str(tmp_path / f"b{target}")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 25
        assert FILLER not in str([stream.metadata for stream in container.streams])


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [(Codec.FFV1, ".mkv"), (Codec.AV1, ".mkv"), (Codec.AV1, ".webm"), (Codec.PRORES, ".mkv"), (Codec.H264, ".mkv")],
)
def test_pixels_keep_their_shape_in_matroska(
    clip: Callable[..., Path], tmp_path: Path, codec: Codec, suffix: str
) -> None:
    path = clip("a.mp4", width=72, context={"sample_aspect_ratio": Fraction(8, 9)})

    report = enhance(path, tmp_path / f"b{suffix}", EnhanceOptions(preset="restore", audio=AudioMode.OFF, codec=codec))

    assert shape_of(tmp_path / f"b{suffix}") == Shape(Fraction(8, 9))
    assert report.picture is not None
    assert report.picture.result.sample_aspect == "8/9"
    assert not any("shape" in text for text in (*report.warnings, *(part.what for part in report.parts)))


def test_a_shape_that_the_container_cannot_hold_is_named(clip: Callable[..., Path], tmp_path: Path) -> None:
    path = amended(clip("a.mkv", tags={"title": FILLER}), Shape(stereo=Stereo(4)))

    report = enhance(path, tmp_path / "b.mp4", RESTORE)

    (part,) = [part for part in report.parts if "stereo" in part.what]
    assert (part.what, part.action) == ("stereo 3D (checkerboard)", Action.NOT_CARRIED)


def test_the_first_note_on_spheres_is_read_without_its_software(clip: Callable[..., Path], tmp_path: Path) -> None:
    path = clip("a.mp4")
    note = b"<GSpherical:Spherical>true</><GSpherical:ProjectionType>equirectangular</>"
    note += b"<GSpherical:StereoMode>left-right</>"
    name = bytes.fromhex("ffcc8263f8554a938814587a02521fdd")
    insert_box(path, struct.pack(">I4s", 24 + len(note), b"uuid") + name + note, b"moov", b"trak")

    enhance(path, tmp_path / "b.mkv", RESTORE)

    assert shape_of(tmp_path / "b.mkv") == Shape(Fraction(1), Stereo(1), Spherical(0))


@pytest.mark.parametrize(
    ("box", "crop", "size"),
    [
        (clap(48, 40), Crop(8, 4, 8, 4), (48, 40)),
        (clap(50, 48, right=2, down=0), Crop(8, 0, 6, 0), (50, 48)),
        (clap(52, 36, right=-4, down=4), Crop(4, 8, 8, 4), (52, 36)),
        (clap(64, 48), None, (64, 48)),
        (clap(99, 48), None, (64, 48)),
    ],
)
def test_what_a_clean_aperture_hides_is_cut_off(
    clip: Callable[..., Path], tmp_path: Path, box: bytes, crop: Crop | None, size: tuple[int, int]
) -> None:
    path = clip("a.mp4", options={"qp": "1"})
    insert_box(path, box, *ENTRY)
    video = probe(path).video
    assert video is not None
    assert (video.crop, (video.width, video.height)) == (crop, size)

    options = EnhanceOptions(preset="restore", audio=AudioMode.OFF, strength=0.0, crf=1)
    report = enhance(path, tmp_path / "b.mp4", options)

    after = probe(tmp_path / "b.mp4").video
    assert after is not None
    assert (after.width, after.height, after.crop) == (*size, None)
    edge = crop or Crop()
    with av.open(str(path)) as one, av.open(str(tmp_path / "b.mp4")) as two:
        before = next(one.decode(video=0)).to_ndarray(format="gray")
        result = next(two.decode(video=0)).to_ndarray(format="gray")
    cut = before[edge.top : 48 - edge.bottom, edge.left : 64 - edge.right]
    assert abs(cut.astype(int) - result).max() < 12
    assert [part.action for part in report.parts if part.what == "cropping"] == [Action.TRANSCODED] * bool(crop)


def test_what_a_matroska_hides_is_cut_off(clip: Callable[..., Path], tmp_path: Path) -> None:
    path = clip("a.mkv")
    data = path.read_bytes()
    # The unit of the display size makes room for one cropping value; its checksum is not verified.
    assert data.count(b"\x54\xb2\x81\x04") == 1
    path.write_bytes(data.replace(b"\x54\xb2\x81\x04", b"\x54\xbb\x81\x08"))
    assert read_matroska_tracks(path) == [(Crop(top=8), None)]

    enhance(path, tmp_path / "b.mkv", RESTORE)

    after = probe(tmp_path / "b.mkv").video
    assert after is not None
    assert (after.width, after.height) == (64, 40)


def test_a_copied_video_keeps_or_names_its_cropping(clip: Callable[..., Path], tmp_path: Path) -> None:
    path = clip("a.mp4", audio="aac")
    insert_box(path, clap(48, 40), *ENTRY)

    report = enhance(path, tmp_path / "b.mp4", EnhanceOptions(preset="sound-only"))

    (part,) = [part for part in report.parts if part.what == "cropping"]
    after = probe(tmp_path / "b.mp4").video
    assert after is not None
    assert (part.action is Action.COPIED) == (after.crop == Crop(8, 4, 8, 4))


@pytest.mark.parametrize(("suffix", "compatibility"), [(".mp4", 0), (".mov", 1), (".mkv", 1)])
def test_dolby_vision_is_kept_by_a_copy_and_named_else(
    clip: Callable[..., Path], tmp_path: Path, suffix: str, compatibility: int
) -> None:
    path = clip("a.mp4", codec="libx265", options={"preset": "ultrafast", "x265-params": "log-level=none"}, audio="aac")
    record = bytes([1, 0, 8 << 1, 1 << 3 | 5, compatibility << 4]) + bytes(19)
    insert_box(path, struct.pack(">I4s", 32, b"dvvC") + record, *ENTRY[:-1], b"hev1")

    copied = enhance(path, tmp_path / f"b{suffix}", EnhanceOptions(preset="sound-only"))
    made = enhance(path, tmp_path / f"c{suffix}", RESTORE)

    after = probe(tmp_path / f"b{suffix}").video
    assert after is not None
    assert after.dolby_vision == DolbyVision(record)
    fates = [next(part for part in report.parts if "Dolby" in part.what) for report in (copied, made)]
    assert [part.action for part in fates] == [Action.COPIED, Action.NOT_CARRIED]
    assert ("wrong colours" in fates[1].reason) == (compatibility == 0)


def test_a_file_of_another_structure_is_left_as_it_is(clip: Callable[..., Path]) -> None:
    for name, change in (("a.mp4", amend_mp4), ("a.mkv", lambda p, s: amend_matroska(p, s, is_webm=False))):
        path = clip(name)
        whole = path.read_bytes()
        for content in (whole, whole[: len(whole) // 2], b"", b"\0" * 64, b"\x1a\x45\xdf\xa3"):
            path.write_bytes(content)
            change(path, [SHAPE, SHAPE])
            assert path.read_bytes() == content
