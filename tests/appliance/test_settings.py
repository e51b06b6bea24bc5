from pathlib import Path

import pytest

from appliance.errors import SettingsError
from appliance.settings import Settings
from appliance.settings_file import fixed_settings, load_settings


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


def test_names_in_a_variable_are_separated_by_commas(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("RELUME_HOST_NAMES", "Box.example, other.example")

    assert load_settings(tmp_path).host_names == ("box.example", "other.example")


def test_the_data_directory_comes_from_the_environment_too(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("RELUME_DATA", str(tmp_path / "there"))

    assert load_settings().data == tmp_path / "there"
    assert load_settings(tmp_path / "here").data == tmp_path / "here"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port = 0", "setting port: Port must be between 1 and 65535"),
        ("prt = 80", "there is no setting named “prt”; did you mean port?"),
        ("no_such_thing = 1", "there is no setting named “no_such_thing”"),
        ('data = "/tmp"', "cannot set data"),
        ("port = ", "is not valid TOML"),
        ('tls_key = "/a/key.pem"', "set both the certificate and its key"),
        ('host_names = ["http://box"]', "invalid host name"),
        ("upload_limit_gib = nan", "upload_limit_gib"),
        ('tls = "perhaps"', "setting tls: Encrypt (TLS) must be on or off"),
    ],
)
def test_an_invalid_file_is_refused_with_its_path(tmp_path: Path, text: str, said: str):
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
