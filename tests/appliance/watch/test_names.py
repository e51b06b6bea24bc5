import pytest

from appliance.watch.scan import is_excluded, is_temporary, is_text, is_wanted, result_name, show_name


@pytest.mark.parametrize(
    "name",
    [
        "clip.mp4.part", "clip.mp4.crdownload", "clip.tmp", "clip.mp4.filepart", "~clip.mp4", "clip.mp4~", ".clip.mp4",
        ".clip.ab12cd34.partial.mp4", "clip.part.mp4", "CLIP.MP4.PART", "clip.mp4.!qB", "._clip.mp4",
    ],
)  # fmt: skip
def test_names_of_unfinished_files_are_temporary(name):
    assert is_temporary(name)


@pytest.mark.parametrize("name", ["clip.mp4", "part.mp4", "temp.mp4", "a.lock.mp4", "clip.2.mp4", "download.mkv"])
def test_other_names_are_not_temporary(name):
    assert not is_temporary(name)


def test_without_patterns_media_suffixes_count_in_any_case():
    assert is_wanted("tape/CLIP.MP4", include=(), exclude=())
    assert not is_wanted("notes.txt", include=(), exclude=())


def test_patterns_match_names_or_whole_paths_without_regard_to_case():
    assert is_wanted("a/b/Clip.MOV", include=("*.mov",), exclude=())
    assert is_wanted("camera1/x.mp4", include=("camera?/*",), exclude=())
    assert not is_wanted("studio/x.mp4", include=("camera?/*",), exclude=())
    assert not is_wanted("a/proxy_clip.mp4", include=(), exclude=("proxy_*",))


@pytest.mark.parametrize("pattern", ["out", "out/", "./out", "OUT", "out/**"])
def test_an_excluded_folder_excludes_all_that_is_in_it(pattern):
    assert is_excluded("out/deep/clip.mp4", (pattern,))
    assert not is_excluded("outside/clip.mp4", (pattern,))


def test_a_name_that_is_no_text_or_not_printable_is_shown_on_one_line():
    name = b"a\xff\n\x1b[31m.mp4".decode("utf-8", "surrogateescape")

    assert show_name(name) == r"a\xff\n\x1b[31m.mp4"
    assert not is_text(name)
    assert is_text("ä\n.mp4")


def test_a_result_keeps_its_place_and_takes_the_suffix_of_its_kind():
    assert str(result_name("a/b/clip.ts", ".mp4")) == "a/b/clip.mp4"
    assert str(result_name("clip.mp4", ".mp4", 2)) == "clip.2.mp4"
    assert str(result_name("clip", ".mkv")) == "clip.mkv"


def test_the_name_of_a_result_leaves_space_for_its_temporary_name():
    name = result_name("ä" * 125 + ".mp4", ".mp4", 12).name

    assert len(f".{name.removesuffix('.mp4')}.01234567.partial.mp4".encode()) <= 255
    assert name.endswith("ä.12.mp4")
