import json

import av
import numpy as np
import pytest

from appliance.probe import examine, show_probe
from appliance.watch.errors import UnreadableError
from appliance.watch.integrity import check_media
from runtime.enhance import enhance
from runtime.errors import DamagedError
from runtime.media.damage import damaged_places
from runtime.options import EnhanceOptions


def test_probe_as_text_lists_the_streams(clip):
    text = show_probe(clip, as_json=False)

    assert "64x48, 4:2:0 8-bit, 25 fps, 12 frames" in text
    assert "48000 Hz, mono" in text


def test_probe_as_json_keeps_rationals_exact(clip):
    info = json.loads(show_probe(clip, as_json=True))

    assert info["videos"][0]["average_rate"] == "25"
    assert info["path"] == str(clip)


def test_probe_of_a_missing_file_exits_3_with_one_line(relume, tmp_path):
    done = relume("probe", tmp_path / "none.mp4")

    assert done.returncode == 3
    assert done.stderr == f"relume: {tmp_path}/none.mp4 does not exist; check the name and the folder\n"


def cut(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def lose_packet(path, share):
    data = path.read_bytes()
    lost = 188 * int(len(data) // 188 * share)
    path.write_bytes(data[:lost] + data[lost + 188 :])
    return path


@pytest.mark.parametrize("suffix", [".avi", ".mkv", ".mov"])
def test_probe_agrees_with_the_watch_folder_on_truncated_files(suffix, write_clip, relume, tmp_path):
    path = cut(write_clip(tmp_path / f"clip{suffix}"), 0.8)
    with pytest.raises(UnreadableError) as refused:
        check_media(path, EnhanceOptions())
    assert str(refused.value).startswith("file is incomplete (")

    done = relume("probe", path)

    if suffix == ".mov":  # its index is at its end, so nothing of it can be shown
        assert (done.returncode, done.stderr) == (3, f"relume: {path}: {refused.value}\n")
    else:
        assert done.returncode == 0
        assert f"damage     {refused.value}\n" in done.stdout
        assert json.loads(show_probe(path, as_json=True))["damage"] == str(refused.value)


def test_probe_reports_that_a_damaged_tail_cannot_be_decoded(write_clip, tmp_path):
    path = lose_packet(write_clip(tmp_path / "clip.ts", frames=40, size=(320, 240), audio=False), 0.6)
    with pytest.raises(UnreadableError) as refused:
        check_media(path, EnhanceOptions())

    assert examine(path).damage == str(refused.value)
    assert "packets of stream 0 are missing" in str(refused.value)


def test_probe_of_an_intact_file_reports_no_damage(clip, relume):
    assert "none found at the end; use --check to decode the whole file" in show_probe(clip, as_json=False)

    done = relume("probe", "--check", "--json", clip)

    info = json.loads(done.stdout)
    assert (done.returncode, info["damage"]) == (0, None)
    assert [(check["kind"], check["holes"], check["faults"]) for check in info["checks"]] == [
        ("video", [], []),
        ("audio", [], []),
    ]


def test_probe_check_lists_the_holes_that_enhance_reports(write_clip, relume, tmp_path):
    path = lose_packet(write_clip(tmp_path / "clip.ts", frames=40, size=(320, 240), audio=False), 0.6)
    options = EnhanceOptions(preset="restore", allow_damaged=True, threads=1, scale=1)
    report = enhance(path, tmp_path / "out.mp4", options)
    assert report.damage
    with pytest.raises(DamagedError):
        enhance(path, tmp_path / "refused.mp4", EnhanceOptions(preset="restore", threads=1, scale=1))

    (check,) = examine(path, decodes=True).checks

    assert damaged_places(check.holes) == report.damage
    done = relume("probe", "--check", path)
    assert done.returncode == 3
    (hole, *_) = check.holes
    assert f"{hole.start_s:.3f} s" in done.stdout


def test_probe_check_names_the_place_and_length_of_lost_audio(relume, tmp_path):
    path = tmp_path / "talk.flac"
    noise = np.random.default_rng(1).integers(-9000, 9000, (1, 4608 * 6), np.int16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(noise, format="s16", layout="mono")
        frame.sample_rate = 48000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size, packet.duration) for packet in container.demux() if packet.size]
    data = bytearray(path.read_bytes())
    place, size, length = packets[2]
    data[place : place + size] = bytes(size)
    path.write_bytes(data)

    done = relume("probe", "--check", path)

    assert done.returncode == 3
    start, found = 2 * length / 48000, length / 48000
    assert f"0       audio  {start:.3f} s  {found:.3f} s" in done.stdout
