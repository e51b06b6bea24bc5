import json

from appliance.probe import show_probe


def test_probe_as_text_tells_the_streams(clip):
    text = show_probe(clip, as_json=False)

    assert "64x48, 420 8 bit, 25 fps, 12 frames" in text
    assert "48000 Hz, mono" in text


def test_probe_as_json_keeps_rationals_exact(clip):
    info = json.loads(show_probe(clip, as_json=True))

    assert info["videos"][0]["average_rate"] == "25"
    assert info["path"] == str(clip)


def test_probe_of_a_missing_file_exits_3_with_one_line(relume, tmp_path):
    done = relume("probe", tmp_path / "none.mp4")

    assert done.returncode == 3
    assert done.stderr == f"relume: {tmp_path}/none.mp4 does not exist; check the name and the folder\n"
