"""Files that are not media, or that refer to other files and addresses, which must not be opened."""

import http.server
import threading
from pathlib import Path

import pytest

from appliance.web import upload_probe
from appliance.web.upload_probe import probe_upload


@pytest.fixture
def asked():
    """Listen for anyone who follows an address, and give what was asked for."""
    heard: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            heard.append(self.path)
            self.send_response(404)
            self.end_headers()

        def log_message(self, *words):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        heard_of = type("Heard", (), {"paths": heard, "address": f"http://127.0.0.1:{server.server_port}"})
        yield heard_of
        server.shutdown()
        thread.join()


LISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n",
    "hls with spaces before": "\n\n #EXTM3U\n#EXTINF:10,\n{target}\n",
    "hls behind a byte order mark": "\ufeff#EXTM3U\n#EXTINF:10,\n{target}\n",
    "concat": "ffconcat version 1.0\nfile '{target}'\n",
    "old concat": "# a remark\nfile '{target}'\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "dash": '<?xml version="1.0"?><MPD><Period><BaseURL>{target}</BaseURL></Period></MPD>',
    "dash without a head": "<MPD><Period><BaseURL>{target}</BaseURL></Period></MPD>",
    "pls": "[playlist]\nFile1={target}\n",
    "asx": '<asx version="3.0"><entry><ref href="{target}"/></entry></asx>',
    "smil": '<smil><body><video src="{target}"/></body></smil>',
    "ram": "{target}\n",
    "image sequence": "P6 2 2 255\n{target}",
    "subtitle": "1\n00:00:01,000 --> 00:00:02,000\n<img src='{target}'>\n",
    "svg": '<svg xmlns="http://www.w3.org/2000/svg"><image href="{target}"/></svg>',
}


@pytest.mark.parametrize("kind", LISTS)
def test_a_file_that_names_another_is_refused_and_the_other_not_opened(kind, clip, asked, tmp_path: Path):
    for target in (f"{asked.address}/secret.mp4", str(clip), clip.name):
        path = tmp_path / "upload"
        path.write_text(LISTS[kind].format(target=target), encoding="utf-8")

        found = upload_probe.check(path)  # what the child process runs

        assert found.keys() == {"error"}
        assert asked.paths == []


def test_a_refusal_has_the_name_of_the_file_and_not_its_place(asked, tmp_path: Path):
    path = tmp_path / "upload"
    path.write_text(LISTS["hls"].format(target=asked.address))

    probe, error = probe_upload(path, "list.mp4", timeout_s=20)

    assert probe is None
    assert error == "list.mp4 is a playlist, expected the media file itself"
    assert asked.paths == []


def test_a_video_whose_index_names_another_file_does_not_lead_there(asked, tmp_path: Path, clip):
    """A QuickTime movie may store its samples elsewhere: its `dref` entry is then an alias or a URL."""
    content = clip.read_bytes()
    plain = b"\x00\x00\x00\x0curl \x00\x00\x00\x01"  # the samples are in this file
    assert plain in content
    address = f"{asked.address}/x.mp4".encode() + b"\0"
    outside = (12 + len(address)).to_bytes(4, "big") + b"url \x00\x00\x00\x00" + address
    path = tmp_path / "upload"
    path.write_bytes(_replace_in_boxes(content, plain, outside))

    found = upload_probe.check(path)

    assert asked.paths == []
    assert "error" in found or found["probe"]["has_picture"]


def _replace_in_boxes(content: bytes, old: bytes, new: bytes) -> bytes:
    """Replace every occurrence within the index, and make the boxes around it as long as they are then."""
    grown = {b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"}

    def rewrite(data: bytes) -> bytes:
        out, at = b"", 0
        while at + 8 <= len(data):
            size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
            body = data[at + 8 : at + size]
            if kind == b"dref":
                body = body[:8] + body[8:].replace(old, new)
            elif kind in grown:
                body = rewrite(body)
            out += (len(body) + 8).to_bytes(4, "big") + kind + body
            at += size
        return out

    return rewrite(content)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"MZ\x90\x00" + bytes(1000), "not a media file"),
        (b"PK\x03\x04" + bytes(1000), "not a media file"),
        (b"\x1f\x8b\x08\x00" + bytes(1000), "not a media file"),
        (b"\x7fELF" + bytes(1000), "not a media file"),
        (b"%PDF-1.7\n" + b"x" * 1000, "text file"),
        (b"<script>alert(1)</script>", "text file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(1000), "a still image (PNG)"),
        (bytes(4096), "not a media file"),
    ],
)
def test_what_is_not_media_is_named_with_its_reason(tmp_path: Path, content, said):
    path = tmp_path / "upload"
    path.write_bytes(content)

    found = upload_probe.check(path)

    assert found.keys() == {"error"}
    assert said in found["error"]


def test_a_symbolic_link_in_the_place_of_an_upload_is_not_written_through(tmp_path: Path, operator, stored):
    place = operator.begin_upload("a.mp4", 4).headers["location"]
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    path = stored(place.rpartition("/")[2])
    path.unlink()
    path.symlink_to(victim)

    answer = operator.send(place, 0, b"evil")

    assert answer.status_code == 500
    assert victim.read_text() == "untouched"


def test_a_reader_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch):
    waits = "import time; time.sleep(60)"
    monkeypatch.setattr(upload_probe.sys, "executable", str(_script(tmp_path, waits)))
    monkeypatch.setattr(upload_probe, "_SPARE_S", 0.0)

    probe, error = probe_upload(tmp_path / "upload", "clip.mp4", timeout_s=0.2)

    assert probe is None
    assert "could not be checked within 0.2 s" in error


def test_a_reader_that_crashes_is_an_answer_too(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(upload_probe.sys, "executable", str(_script(tmp_path, "import os; os.abort()")))

    probe, error = probe_upload(tmp_path / "upload", "clip.mp4", timeout_s=20)

    assert probe is None
    assert error.startswith("clip.mp4 is damaged or not a media file")


def _script(folder: Path, text: str) -> Path:
    import sys

    path = folder / "python"
    path.write_text(f"#!{sys.executable}\nimport resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n{text}\n")
    path.chmod(0o755)
    return path


def test_an_answer_counts_whatever_becomes_of_the_process_later():
    assert upload_probe._read_answer('{"probe": {"fps": 25}}\nTraceback ...') == {"probe": {"fps": 25}}
    assert upload_probe._read_answer(b'{"error": "x"}\n') == {"error": "x"}
    assert upload_probe._read_answer('{"probe": {"f') == {}
    assert upload_probe._read_answer("") == {}
    assert upload_probe._read_answer('{"probe": {}}\n{"damage": null}\n') == {"probe": {}, "damage": None}
    assert upload_probe._read_answer('{"probe": {}}\n{"damage": "file is') == {"probe": {}}


def test_an_end_that_was_not_checked_is_reported(tmp_path: Path, monkeypatch):
    answers = """import os; print('{"probe": {"fps": 25}}', flush=True); os.abort()"""
    monkeypatch.setattr(upload_probe.sys, "executable", str(_script(tmp_path, answers)))

    probe, error = probe_upload(tmp_path / "upload", "clip.mp4", timeout_s=20)

    assert (probe, error) == (
        {"fps": 25, "damage": "the end of the file could not be checked; it may be damaged"},
        None,
    )
