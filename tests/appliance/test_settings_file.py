from pathlib import Path

import pytest

from appliance.errors import SettingsError
from appliance.settings import load_settings
from appliance.settings_file import save_settings


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
    assert "# Keep uploads (days): A file without a job is removed after so many days.\nupload_days = 2\n" in text
    assert [path.name for path in tmp_path.iterdir()] == ["relume.toml"]


def test_a_refused_change_leaves_the_file_as_it_is(tmp_path: Path, monkeypatch):
    save_settings(tmp_path, {"port": 9000})
    before = (tmp_path / "relume.toml").read_bytes()
    monkeypatch.setenv("RELUME_TLS", "false")

    for change, said in (
        ({"port": -1}, "setting port is -1"),
        ({"nothing": 1}, "no settings named nothing"),
        ({"data": "/"}, "data cannot be changed here"),
        ({"tls": True}, "tls cannot be changed here"),
    ):
        with pytest.raises(SettingsError, match=said):
            save_settings(tmp_path, change)

    assert (tmp_path / "relume.toml").read_bytes() == before
