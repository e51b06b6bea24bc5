from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.errors import DecodeError, UnsupportedMediaError
from runtime.media.probe import probe
from runtime.media.source import open_source


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("empty.mp4", b"", DecodeError, "is empty"),
        ("text.mp4", b"Dear diary, today I filmed nothing.\n" * 20, DecodeError, "is a text file"),
        ("noise.mp4", bytes(range(256)) * 40, DecodeError, "is not a media file"),
        ("photo.mp4", b"\x89PNG\r\n\x1a\n" + bytes(600), UnsupportedMediaError, "is a picture"),
        ("photo.heic", b"\0\0\0\x18ftypheic" + bytes(600), UnsupportedMediaError, "is a picture"),
        ("list.mp4", b"#EXTM3U\nhttp://example.org/a.ts\n", UnsupportedMediaError, "list of other"),
        ("list.txt", b"ffconcat version 1.0\nfile a.mp4\n", UnsupportedMediaError, "list of other"),
        ("talk.sdp", b"v=0\no=- 0 0 IN IP4 127.0.0.1\n", UnsupportedMediaError, "list of other"),
    ],
)
def test_what_is_no_media_file_is_refused_in_words(
    tmp_path: Path, name: str, content: bytes, error: type[Exception], message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(error, match=message):
        open_source(path)

    assert path.read_bytes() == content


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match="does not exist"):
        open_source(tmp_path / "none.mp4")
    with pytest.raises(DecodeError, match="is a folder"):
        open_source(tmp_path)


def test_a_file_without_permission_is_refused(clip: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = clip("a.mp4")
    monkeypatch.setattr(Path, "open", deny)

    with pytest.raises(DecodeError, match="Permission denied; check its permissions"):
        open_source(path)


def test_an_mp4_cut_before_its_index_is_told_as_cut(clip: Callable[..., Path]) -> None:
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
