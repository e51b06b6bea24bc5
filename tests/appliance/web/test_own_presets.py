"""Saved presets: personal ones, shared ones, and the defaults of new jobs."""

from appliance.accounts.principal import Role

CHOICES = {"preset": "restore", "strength": 0.5, "codec": "hevc"}


def names(person):
    return [
        (preset["name"], preset["shared"], preset["is_default"]) for preset in person.get("/api/own-presets").json()
    ]


def test_options_are_saved_under_a_name_for_one_user_or_everyone(admin, operator, log_in):
    mine = operator.post("/api/own-presets", {"name": " Trains ", "choices": CHOICES})
    shared = admin.post("/api/own-presets", {"name": "House style", "choices": {"preset": "studio"}, "shared": True})

    assert (mine.status_code, mine.json()["name"], mine.json()["choices"]) == (201, "Trains", CHOICES)
    assert names(operator) == [("House style", True, False), ("Trains", False, False)]
    assert names(log_in(Role.OPERATOR, "Oscar")) == [("House style", True, False)]
    again = operator.post("/api/own-presets", {"name": "Trains", "choices": {"preset": "archive"}})
    assert again.json()["id"] == mine.json()["id"]
    assert operator.get("/api/own-presets").json()[1]["choices"] == {"preset": "archive"}

    refused = operator.post("/api/own-presets", {"name": "x", "choices": CHOICES, "shared": True})
    assert (refused.status_code, "only administrators" in refused.text) == (422, True)
    assert operator.delete(f"/api/own-presets/{shared.json()['id']}").status_code == 422
    assert operator.delete(f"/api/own-presets/{mine.json()['id']}").status_code == 204
    assert operator.delete(f"/api/own-presets/{mine.json()['id']}").status_code == 404


def test_one_preset_is_what_new_jobs_begin_with(admin, operator):
    ids = [
        operator.post("/api/own-presets", {"name": name, "choices": CHOICES}).json()["id"] for name in ("One", "Two")
    ]

    for preset_id in ids:
        assert operator.patch(f"/api/own-presets/{preset_id}", {"is_default": True}).status_code == 204
    assert names(operator) == [("One", False, False), ("Two", False, True)]
    assert admin.patch(f"/api/own-presets/{ids[0]}", {"is_default": True}).status_code == 404, "it is not theirs"
    operator.patch(f"/api/own-presets/{ids[1]}", {"is_default": False})
    assert names(operator) == [("One", False, False), ("Two", False, False)]
    operator.patch(f"/api/own-presets/{ids[1]}", {"is_default": True})
    operator.delete(f"/api/own-presets/{ids[1]}")
    assert names(operator) == [("One", False, False)]


def test_choices_that_make_no_sense_are_not_kept(operator):
    for choices in ({"preset": "nothing"}, {"preset": "sound-only", "codec": "hevc"}, {"colour": 1}):
        assert operator.post("/api/own-presets", {"name": "x", "choices": choices}).status_code == 422
    assert operator.post("/api/own-presets", {"name": "  ", "choices": CHOICES}).status_code == 422
    assert names(operator) == []


def test_presets_move_to_another_user_as_a_file(admin, operator, log_in):
    operator.post("/api/own-presets", {"name": "Trains", "choices": CHOICES})
    admin.post("/api/own-presets", {"name": "House style", "choices": {"preset": "studio"}, "shared": True})
    oscar = log_in(Role.OPERATOR, "Oscar")
    oscar.post("/api/own-presets", {"name": "Trains", "choices": {"preset": "archive"}})

    exported = operator.get("/api/own-presets/export")
    imported = oscar.post("/api/own-presets/import", exported.json())

    assert "relume-presets.json" in exported.headers["content-disposition"]
    assert exported.json() == {
        "relume_presets": 1,
        "presets": [{"name": "House style", "choices": {"preset": "studio"}}, {"name": "Trains", "choices": CHOICES}],
    }
    assert (imported.status_code, [preset["name"] for preset in imported.json()]) == (201, ["House style", "Trains"])
    expected = [("House style", False, False), ("House style", True, False), ("Trains", False, False)]
    assert sorted(names(oscar)) == expected
    assert oscar.get("/api/own-presets").json()[2]["choices"] == CHOICES


def test_a_file_with_one_preset_that_is_wrong_changes_nothing(operator):
    good = {"name": "Good", "choices": CHOICES}
    for wrong in (
        {"presets": [good, {"name": "Bad", "choices": {"preset": "sound-only", "codec": "hevc"}}]},
        {"presets": [good, {"name": "Bad", "choices": {"colour": 1}}]},
        {"presets": [good], "relume_presets": 2},
        {"presets": []},
    ):
        assert operator.post("/api/own-presets/import", wrong).status_code == 422
    assert names(operator) == []
