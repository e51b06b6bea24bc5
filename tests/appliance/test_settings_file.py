import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from appliance.errors import SettingsError
from appliance.settings_file import load_settings, save_settings


def test_saved_settings_are_read_back_and_explained(tmp_path: Path):
    save_settings(
        tmp_path, {"port": 9000, "host_names": ["box.example"], "tls_certificate": '/a b/"c".pem', "tls_key": "/k"}
    )
    save_settings(tmp_path, {"upload_days": 2})

    settings = load_settings(tmp_path)

    assert (settings.port, settings.upload_days, settings.host_names) == (9000, 2, ("box.example",))
    assert settings.tls_certificate == Path('/a b/"c".pem')
    text = (tmp_path / "relume.toml").read_text()
    assert "\nport = 9000\n" in text
    assert "# upload_limit_gib = 200.0\n" in text
    assert (
        "# Keep uploads (days): Uploaded files without a job are deleted after this many days.\nupload_days = 2\n"
        in text
    )
    assert [path.name for path in tmp_path.iterdir()] == ["relume.toml"]


def test_a_refused_change_leaves_the_file_as_it_is(tmp_path: Path, monkeypatch):
    save_settings(tmp_path, {"port": 9000})
    before = (tmp_path / "relume.toml").read_bytes()
    monkeypatch.setenv("RELUME_TLS", "false")

    for change, said in (
        ({"port": -1}, "must be between 1 and 65535"),
        ({"nothing": 1}, "there is no setting named “nothing”"),
        ({"data": "/"}, "data cannot be changed here"),
        ({"tls": True}, "tls cannot be changed here"),
    ):
        with pytest.raises(SettingsError, match=said):
            save_settings(tmp_path, change)

    assert (tmp_path / "relume.toml").read_bytes() == before


@pytest.mark.parametrize(
    "value", ["/srv/😀models", "/srv/ünï/модели/模型", 'a "b" \\c', "/a'b'''c", "/tab-free \u2028 line", "/x\ufeff"]
)
def test_any_path_is_read_back_as_it_was_saved(tmp_path: Path, value: str):
    save_settings(tmp_path, {"zoo": value, "upload_days": 3})

    assert load_settings(tmp_path).zoo == Path("/" if value.startswith("/") else ".").absolute() / value.lstrip("/")
    assert load_settings(tmp_path).upload_days == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"zoo": "/srv/\ud83d"}, "invalid Unicode"),
        ({"zoo": "/srv/a\0b"}, "control character"),
        ({"host": "a\nb"}, "control character"),
        ({"host_names": ["box\x7f"]}, "control character"),
        ({"host_names": ["😀.example"]}, "xn--"),
        ({"host_names": ["-box.example"]}, "invalid host name"),
        ({"port": True}, "true and false are not valid here"),
        ({"disk_reserve_gib": True}, "true and false are not valid here"),
    ],
)
def test_a_value_that_the_next_start_could_not_use_is_refused(tmp_path: Path, change: dict, said: str):
    save_settings(tmp_path, {"port": 9000})
    before = (tmp_path / "relume.toml").read_bytes()

    with pytest.raises(SettingsError, match=said):
        save_settings(tmp_path, change)

    assert (tmp_path / "relume.toml").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["relume.toml"]


def test_changes_at_the_same_time_are_all_kept(tmp_path: Path):
    names = ("upload_days", "open_uploads", "webhook_attempts", "login_attempts", "port", "plain_port")
    with ThreadPoolExecutor(len(names)) as pool:
        for value in range(10, 15):
            list(pool.map(lambda name, value=value: save_settings(tmp_path, {name: value}), names))
            settings = load_settings(tmp_path)
            assert [getattr(settings, name) for name in names] == [value] * len(names)


def test_the_file_is_for_its_owner_alone_and_a_disk_that_fails_leaves_nothing(tmp_path: Path, monkeypatch):
    save_settings(tmp_path, {"port": 9000})
    assert (tmp_path / "relume.toml").stat().st_mode & 0o777 == 0o600

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(SettingsError, match=r"cannot write the settings to .*relume\.toml: No space left on device"):
        save_settings(tmp_path, {"port": 9001})

    assert load_settings(tmp_path).port == 9000
    assert [path.name for path in tmp_path.iterdir()] == ["relume.toml"]
