from pathlib import Path

import pytest

from appliance.errors import SettingsError
from appliance.settings import Settings, fixed_settings, load_settings, save_settings


def test_without_anything_the_defaults_count(tmp_path: Path):
    settings = load_settings(tmp_path / "data")

    assert (settings.port, settings.tls, settings.data) == (8443, True, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_the_command_line_counts_before_the_environment_before_the_file(tmp_path: Path, monkeypatch):
    (tmp_path / "relume.toml").write_text('port = 1\nhost = "10.0.0.1"\nupload_days = 3\n')
    monkeypatch.setenv("RELUME_PORT", "2")
    monkeypatch.setenv("RELUME_HOST", "10.0.0.2")

    settings = load_settings(tmp_path, port=3, host=None)

    assert (settings.port, settings.host, settings.upload_days) == (3, "10.0.0.2", 3)
    assert fixed_settings() == {"port", "host"}


def test_the_data_directory_comes_from_the_environment_too(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("RELUME_DATA", str(tmp_path / "there"))

    assert load_settings().data == tmp_path / "there"
    assert load_settings(tmp_path / "here").data == tmp_path / "here"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port = 0", "setting port is 0: Input should be greater than or equal to 1"),
        ("no_such_thing = 1", "setting no_such_thing is 1"),
        ('data = "/tmp"', "sets data, which it lies in itself"),
        ("port = ", "cannot be read as TOML"),
        ('tls_key = "/a/key.pem"', "tls_certificate and tls_key go together"),
        ('host_names = ["http://box"]', "not a bare name"),
        ("upload_limit_gib = nan", "upload_limit_gib"),
        ('tls = "perhaps"', "setting tls is 'perhaps'"),
    ],
)
def test_a_file_that_cannot_be_is_refused_with_its_place(tmp_path: Path, text: str, said: str):
    (tmp_path / "relume.toml").write_text(text)

    with pytest.raises(SettingsError) as caught:
        load_settings(tmp_path)

    assert said in str(caught.value)


def test_every_field_has_a_title_a_description_and_bounds():
    for name, part in Settings.model_json_schema()["properties"].items():
        assert part["title"], name
        assert len(part["description"]) > 10, name
        kinds = [part, *part.get("anyOf", [])]
        for kind in kinds:
            if kind.get("type") in ("integer", "number"):
                assert {"minimum", "exclusiveMinimum"} & set(kind), name
                assert "maximum" in kind, name


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
