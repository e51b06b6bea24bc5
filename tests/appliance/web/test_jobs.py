from fractions import Fraction
from pathlib import Path

import pytest

from appliance.accounts.principal import Role
from appliance.jobs.job import JobCommand, NewJob
from appliance.web.app import remove_old_previews
from runtime.manifest import find_model, zoo_folder
from runtime.options import AudioMode, Codec, EnhanceOptions
from runtime.progress import Progress


@pytest.fixture
def uploaded(operator, clip_bytes):
    upload_id = operator.upload("clip.mp4", clip_bytes)
    operator.checked(upload_id)
    return upload_id


def test_a_job_gets_its_options_and_its_upload(operator, uploaded, services, stored):
    answer = operator.post(
        "/api/jobs",
        {
            "file": uploaded,
            "preset": "restore",
            "scale": 1,
            "strength": 0.5,
            "audio": "off",
            "codec": "hevc",
            "priority": 3,
        },
    )

    shown = answer.json()
    assert answer.status_code == 201
    assert (shown["title"], shown["state"], shown["owner_name"], shown["priority"]) == ("clip.mp4", "queued", "Olga", 3)
    assert shown["has"]["thumbnail"] is True
    options = services.queue.get(shown["id"]).options
    assert (options.scale, options.strength, options.audio, options.codec) == (1, 0.5, AudioMode.OFF, Codec.HEVC)
    assert services.queue.get(shown["id"]).source == stored(uploaded)
    assert operator.get("/api/files").json() == []
    assert str(services.settings.data) not in answer.text
    again = operator.post("/api/jobs", {"file": uploaded})
    assert (again.status_code, again.json()["error"]["message"][:27]) == (422, "clip.mp4 already has a job;")
    assert sum(services.queue.counts().values()) == 1


def test_the_servers_own_models_are_offered_and_a_damaged_one_is_left_out(operator, tmp_path):
    assert operator.get("/api/models").json() == []
    for name in ("light-x2", "speech-mask", "damaged"):
        (tmp_path / "zoo" / name).mkdir(parents=True)
        source = zoo_folder() / name / "manifest.json"
        (tmp_path / "zoo" / name / "manifest.json").write_text(source.read_text() if source.exists() else "{")

    (offered,) = operator.get("/api/models").json()

    assert (offered["name"], offered["scale"]) == ("light-x2", 2)
    assert offered["title"] == find_model("light-x2").manifest.title


def test_a_job_can_name_a_model_of_the_server_or_one_that_ships(operator, uploaded, services, tmp_path):
    own = tmp_path / "zoo" / "own"
    own.mkdir(parents=True)
    (own / "manifest.json").write_bytes((zoo_folder() / "light-x2" / "manifest.json").read_bytes())

    for model, zoo in (("own", tmp_path / "zoo"), ("light-x2", None)):
        answer = operator.post("/api/jobs", {"file": uploaded, "model": model, "preview": True})
        options = services.queue.get(answer.json()["id"]).options
        assert (options.model, options.zoo) == (model, zoo)
        assert answer.json()["options"]["model"] == model
        assert str(tmp_path) not in answer.text

    for model in ("vast", "../zoo/own", ""):
        refused = operator.post("/api/jobs", {"file": uploaded, "model": model, "preview": True})
        assert refused.status_code == 422
        assert str(tmp_path) not in refused.text


def test_a_preview_leaves_the_upload_for_the_whole_job(operator, uploaded):
    preview = operator.post("/api/jobs", {"file": uploaded, "preview": True}).json()

    assert preview["preview_of"] == uploaded
    assert [file["id"] for file in operator.get("/api/files").json()] == [uploaded]
    whole = operator.post("/api/jobs", {"file": uploaded}).json()
    assert whole["preview_of"] is None


def test_an_invalid_request_is_refused_and_the_upload_stays(operator, uploaded, services):
    for options in (
        {"preset": "none"},
        {"preset": "sound-only", "codec": "h264"},
        {"preset": "sound-only", "audio": "off"},
        {"scale": 3},
        {"scale": "4"},
        {"strength": 1.5},
        {"codec": "gif"},
        {"priority": 101},
        {"backend": "cpu"},
        {"source": "/etc/passwd"},
        {"target": "/tmp/x"},
        {"file": "../relume.db"},
        {"file": "A" * 16},
    ):
        answer = operator.post("/api/jobs", {"file": uploaded, **options})

        assert answer.status_code in (404, 422), options
        assert answer.json()["error"]["message"]
    assert sum(services.queue.counts().values()) == 0
    assert [file["id"] for file in operator.get("/api/files").json()] == [uploaded]


def test_a_file_that_is_nothing_to_enhance_gets_no_job(operator, stored):
    upload_id = operator.upload("list.m3u8", b"#EXTM3U\n#EXTINF:10,\nhttp://192.0.2.1/x.ts\n")

    answer = operator.post("/api/jobs", {"file": upload_id})

    assert answer.status_code == 422
    assert answer.json()["error"]["message"].startswith("list.m3u8 is a playlist")
    assert operator.checked(upload_id)["error"] == answer.json()["error"]["message"]
    assert not stored(upload_id).exists()


def test_a_file_that_has_not_arrived_gets_no_job(operator):
    upload_id = operator.begin_upload("clip.mp4", 100).headers["location"].rpartition("/")[2]

    answer = operator.post("/api/jobs", {"file": upload_id})

    assert answer.status_code == 422
    assert "is not complete" in answer.json()["error"]["message"]


def test_jobs_are_listed_by_state_and_searched(viewer, add_job, services):
    first, second = add_job(title="Holiday.mp4"), add_job(title="Meeting 100%.mp4")
    services.queue.pause(second.id)

    def titles(query):
        return [job["title"] for job in viewer.get(f"/api/jobs?{query}").json()["jobs"]]

    assert titles("") == ["Meeting 100%.mp4", "Holiday.mp4"]
    assert titles("state=queued") == ["Holiday.mp4"]
    assert titles("state=queued,paused&text=MEET") == ["Meeting 100%.mp4"]
    assert titles("text=100%25") == ["Meeting 100%.mp4"]
    assert titles("limit=1&offset=1") == ["Holiday.mp4"]
    body = viewer.get("/api/jobs").json()
    assert body["counts"] == {"queued": 1, "paused": 1, "running": 0, "done": 0, "failed": 0, "cancelled": 0}
    assert body["revision"] == services.queue.revision()
    assert viewer.get(f"/api/jobs/{first.id}").json()["title"] == "Holiday.mp4"
    assert viewer.get("/api/jobs?state=gone").status_code == 422


def test_a_job_is_controlled_by_its_owner_and_the_administrator_alone(operator, admin, log_in, add_job, services):
    other = log_in(Role.OPERATOR, "Otto")
    job = add_job(operator.user)
    before = services.queue.get(job.id)

    for answer in (
        other.post(f"/api/jobs/{job.id}/pause"),
        other.post(f"/api/jobs/{job.id}/cancel"),
        other.patch(f"/api/jobs/{job.id}", {"priority": 5}),
        other.delete(f"/api/jobs/{job.id}"),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_yours")
    assert services.queue.get(job.id) == before

    assert operator.post(f"/api/jobs/{job.id}/pause").json()["state"] == "paused"
    assert admin.post(f"/api/jobs/{job.id}/resume").json()["state"] == "queued"
    assert operator.post(f"/api/jobs/{job.id}/cancel").json()["state"] == "cancelled"
    assert operator.post(f"/api/jobs/{job.id}/retry").json()["state"] == "queued"


def test_what_makes_no_sense_in_a_state_is_refused_with_a_message(operator, add_job):
    job = add_job(operator.user, "clip.mp4")

    retried = operator.post(f"/api/jobs/{job.id}/retry")
    removed = operator.delete(f"/api/jobs/{job.id}")

    assert (retried.status_code, retried.json()["error"]["code"]) == (409, "job_state")
    assert "is queued, so it cannot be retried" in retried.json()["error"]["message"]
    assert removed.status_code == 409
    assert "cancel it before removing" in removed.json()["error"]["message"]
    assert operator.post(f"/api/jobs/{job.id}/explode").status_code == 422


def test_the_order_of_the_queue_is_changed(operator, add_job, viewer):
    first, second, third = (add_job(operator.user, f"{number}.mp4") for number in range(3))

    def order():
        return [job["title"] for job in viewer.get("/api/jobs?state=queued").json()["jobs"]]

    operator.patch(f"/api/jobs/{third.id}", {"before": first.id})
    assert order() == ["2.mp4", "0.mp4", "1.mp4"]
    operator.patch(f"/api/jobs/{third.id}", {"before": None})
    assert order() == ["0.mp4", "1.mp4", "2.mp4"]
    operator.patch(f"/api/jobs/{second.id}", {"priority": 1})
    assert order() == ["1.mp4", "0.mp4", "2.mp4"]


def test_removing_a_job_removes_its_upload(operator, uploaded, services):
    job = operator.post("/api/jobs", {"file": uploaded}).json()
    operator.post(f"/api/jobs/{job['id']}/cancel")

    assert operator.delete(f"/api/jobs/{job['id']}").status_code == 204

    assert list(services.settings.uploads.iterdir()) == []
    assert operator.get(f"/api/jobs/{job['id']}").status_code == 404


def test_an_upload_stays_as_long_as_a_job_reads_it(operator, uploaded, services, stored):
    operator.post("/api/jobs", {"file": uploaded})

    services.uploads.clean_up()

    assert stored(uploaded).is_file()


def test_worker_messages_are_shown(viewer, add_job, services):
    job = add_job()
    services.queue.lease("cpu").claim()
    services.queue.lease("cpu").progress(
        job.id, Progress("enhancing", frames_done=5, frames_total=20, fps=2.5, eta_s=6.0)
    )

    shown = viewer.get(f"/api/jobs/{job.id}").json()

    assert (shown["state"], shown["stage"], shown["frames_done"], shown["frames_total"]) == (
        "running",
        "enhancing",
        5,
        20,
    )
    assert (shown["fps"], shown["eta_s"]) == (2.5, 6.0)


def test_a_name_that_is_not_utf8_does_not_break_the_list(viewer, services, tmp_path):
    services.queue.add(NewJob(tmp_path / "caf\udce9.mp4", "caf\udce9.mp4", EnhanceOptions()))

    answer = viewer.get("/api/jobs")

    assert answer.status_code == 200
    assert answer.json()["jobs"][0]["source_name"] == "caf?.mp4"


def test_an_estimate_shows_the_result_at_once_and_its_time_after_one_test_run(
    operator, uploaded, services, clip_bytes, monkeypatch
):
    options = {"file": uploaded, "preset": "restore", "audio": "off"}
    first = operator.post("/api/estimates", {**options, "quick": True}).json()
    assert (first["time_s"], first["is_measured"], first["fits"]) == (None, False, True)
    facts = probe_size(operator, uploaded)
    assert first["result"] == {
        "has_video": True,
        "source_width": facts[0],
        "source_height": facts[1],
        "width": facts[0],
        "height": facts[1],
        "scale": 1,
        "codec": "h264",
        "suffix": ".mp4",
        "duration_s": operator.checked(uploaded)["probe"]["duration_s"],
        "size_bytes": None,
    }

    tried = operator.post("/api/estimates", options).json()
    assert tried["is_measured"] is True
    assert tried["time_s"] > 0
    assert tried["result"]["size_bytes"] > 0

    # The same options are not tested again for another part; another file is estimated from this one.
    monkeypatch.setattr("appliance.jobs.estimate._try", None)
    assert operator.post("/api/estimates", options).json()["time_s"] == tried["time_s"]
    part = operator.post("/api/estimates", {**options, "end_s": 0.2}).json()
    assert part["is_measured"] is True
    assert part["time_s"] < tried["time_s"]
    other = operator.upload("other.mp4", clip_bytes)
    guessed = operator.post("/api/estimates", {**options, "file": other, "quick": True}).json()
    assert (guessed["is_measured"], guessed["time_s"]) == (False, tried["time_s"])

    # No test run while a job runs.
    services.queue.add(NewJob(Path("/x.mp4"), "x.mp4", EnhanceOptions()))
    services.queue.lease("w").claim()
    busy = operator.post("/api/estimates", {**options, "file": other, "preset": "surveillance"}).json()
    assert (busy["is_measured"], busy["time_s"]) == (False, None)
    # The estimate is removed with the job.
    job = operator.post("/api/jobs", options).json()
    assert job["estimate"] == {"time_s": tried["time_s"]}


def test_the_first_estimate_is_from_the_last_job_with_the_same_options(operator, uploaded, services, clip_bytes):
    options = {"preset": "restore", "audio": "off"}
    done = operator.post("/api/jobs", {"file": uploaded, **options}).json()
    services.queue.lease("w").claim()
    services.queue.lease("w").progress(done["id"], Progress("enhancing", 30, 30))
    services.queue.lease("w").finish(done["id"], Path("/r.mp4"))
    with services.database.transaction() as connection:
        connection.execute("UPDATE jobs SET worked_s = 60")
    other = operator.upload("other.mp4", clip_bytes)
    frames = operator.checked(other)["probe"]["frames"]

    guess = operator.post("/api/estimates", {"file": other, **options, "quick": True}).json()

    assert (guess["is_measured"], guess["time_s"], guess["fits"]) == (False, pytest.approx(60 * frames / 30), True)
    for different in ({"preset": "upscale"}, {"preset": "restore"}):
        body = {"file": other, **different, "quick": True}
        assert operator.post("/api/estimates", body).json()["time_s"] is None


def probe_size(operator, upload_id):
    probe = operator.checked(upload_id)["probe"]
    return probe["width"], probe["height"]


def test_a_part_of_a_file_is_enhanced(operator, uploaded, services):
    answer = operator.post("/api/jobs", {"file": uploaded, "start_s": 0.1, "end_s": "0.3"})

    assert answer.status_code == 201
    assert (answer.json()["options"]["start_s"], answer.json()["options"]["end_s"]) == (0.1, 0.3)
    options = services.queue.get(answer.json()["id"]).options
    assert (options.start, options.end) == (Fraction(1, 10), Fraction(3, 10))


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ({"start_s": 900}, "start_s is 900, but clip.mp4 ends at"),
        ({"start_s": 0.5, "end_s": 0.5}, "end is 0.5 s, expected later than the start (0.5 s)"),
    ],
)
def test_a_part_that_is_none_is_refused(operator, uploaded, services, times, message):
    answer = operator.post("/api/jobs", {"file": uploaded, **times})

    assert answer.status_code == 422
    assert answer.json()["error"]["message"].startswith(message)
    assert sum(services.queue.counts().values()) == 0
    for wrong in ({"start_s": -1}, {"end_s": "soon"}, {"start_s": 0.00000001}):
        assert operator.post("/api/jobs", {"file": uploaded, **wrong}).status_code == 422


def test_a_finished_jobs_file_is_enhanced_again(operator, uploaded, services, log_in, stored):
    source = stored(uploaded)
    first = operator.post("/api/jobs", {"file": uploaded, "preset": "restore"}).json()

    again = operator.post("/api/jobs", {"again": first["id"], "preset": "surveillance"})

    assert again.status_code == 201, again.text
    second = again.json()
    assert (second["title"], second["options"]["preset"], second["has"]["thumbnail"]) == (
        "clip.mp4",
        "surveillance",
        True,
    )
    assert services.queue.get(second["id"]).source == source
    # The file is removed with the last job that needs it.
    operator.post(f"/api/jobs/{first['id']}/cancel")
    assert operator.delete(f"/api/jobs/{first['id']}").status_code == 204
    assert source.is_file()
    operator.post(f"/api/jobs/{second['id']}/cancel")
    assert operator.delete(f"/api/jobs/{second['id']}").status_code == 204
    assert not source.exists()

    other = log_in(Role.OPERATOR, "Oscar")
    third = operator.post("/api/jobs", {"file": operator.upload("c.mp4", b"x" * 10), "preset": "restore"})
    assert third.status_code == 422
    assert other.post("/api/jobs", {"again": second["id"]}).status_code == 404
    assert operator.post("/api/jobs", {"again": second["id"], "file": uploaded}).status_code == 422
    assert operator.post("/api/jobs", {"preset": "restore"}).status_code == 422


def test_a_file_that_is_gone_is_not_enhanced_again(operator, uploaded, log_in, stored):
    job = operator.post("/api/jobs", {"file": uploaded, "preset": "restore"}).json()
    assert log_in(Role.OPERATOR, "Oscar").post("/api/jobs", {"again": job["id"]}).status_code == 403
    stored(uploaded).unlink()

    answer = operator.post("/api/jobs", {"again": job["id"]})

    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "source_gone")
    assert "upload it again" in answer.json()["error"]["message"]


def test_a_waiting_job_is_changed_and_one_that_started_is_not(operator, uploaded, services):
    job = operator.post("/api/jobs", {"file": uploaded, "preset": "restore"}).json()

    changed = operator.patch(f"/api/jobs/{job['id']}", {"wishes": {"preset": "surveillance", "scale": 2}})

    assert changed.status_code == 200, changed.text
    assert (changed.json()["options"]["preset"], changed.json()["options"]["scale"]) == ("surveillance", 2)
    services.queue.lease("w").claim()
    services.queue.lease("w").progress(job["id"], Progress("enhancing", 3, 10))
    refused = operator.patch(f"/api/jobs/{job['id']}", {"wishes": {"preset": "restore"}})
    assert refused.status_code == 409
    assert "has started, so its settings cannot be changed" in refused.json()["error"]["message"]
    services.queue.lease("w").stop(job["id"], JobCommand.PAUSE)
    assert operator.patch(f"/api/jobs/{job['id']}", {"wishes": {"preset": "restore"}}).status_code == 409
    assert services.queue.get(job["id"]).options.preset == "surveillance"


def test_a_retry_may_take_what_can_be_read_of_a_damaged_file(operator, uploaded, services):
    job = operator.post("/api/jobs", {"file": uploaded, "preset": "restore"}).json()
    services.queue.lease("w").claim()
    services.queue.lease("w").fail(job["id"], "it is damaged")
    wrong = operator.post(f"/api/jobs/{job['id']}/pause", {"allow_damaged": True})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (422, "invalid")

    retried = operator.post(f"/api/jobs/{job['id']}/retry", {"allow_damaged": True})

    assert (retried.status_code, retried.json()["state"]) == (200, "queued")
    assert retried.json()["options"]["allow_damaged"] is True
    assert services.queue.get(job["id"]).options == EnhanceOptions(preset="restore", allow_damaged=True)


def test_the_queue_is_held_by_an_administrator_alone(admin, operator, services, add_job):
    add_job()
    assert operator.post("/api/queue/pause").status_code == 403
    assert admin.get("/api/jobs").json()["is_held"] is False

    assert admin.post("/api/queue/pause").status_code == 204
    assert admin.post("/api/queue/pause").status_code == 204
    assert admin.get("/api/jobs").json()["is_held"] is True
    assert services.queue.lease("w").claim() is None
    assert admin.post("/api/queue/resume").status_code == 204
    assert services.queue.lease("w").claim() is not None


def test_previews_are_left_out_of_lists_and_removed_after_a_day(operator, uploaded, services, monkeypatch):
    preview = operator.post("/api/jobs", {"file": uploaded, "preset": "restore", "preview": True}).json()
    job = operator.post("/api/jobs", {"file": uploaded, "preset": "restore"}).json()
    assert {found["id"] for found in operator.get("/api/jobs").json()["jobs"]} == {preview["id"], job["id"]}
    assert [found["id"] for found in operator.get("/api/jobs?previews=false").json()["jobs"]] == [job["id"]]

    operator.post(f"/api/jobs/{preview['id']}/cancel")
    ended = services.queue.get(preview["id"]).finished_at
    assert services.queue.previews_ended_before(ended) == []
    assert services.queue.previews_ended_before(ended + 1) == [preview["id"]]
    monkeypatch.setattr("time.time", lambda: ended + 86_401)
    remove_old_previews(services)
    assert [found.id for found in services.queue.list()] == [job["id"]]


def test_a_waiting_file_has_a_thumbnail(operator, uploaded, log_in):
    (file,) = operator.get("/api/files").json()
    answer = operator.get(f"/api/files/{uploaded}/thumbnail")

    assert file["has_thumbnail"] is True
    assert (answer.status_code, answer.headers["content-type"], answer.content[:2]) == (200, "image/jpeg", b"\xff\xd8")
    assert log_in(Role.OPERATOR, "Oscar").get(f"/api/files/{uploaded}/thumbnail").status_code == 404


def test_an_estimate_is_shown_before_the_job(operator, uploaded, services):
    answer = operator.post("/api/estimates", {"file": uploaded, "preset": "sound-only"})

    body = answer.json()
    assert answer.status_code == 200, answer.text
    assert body["time_s"] > 0
    assert body["fits"] is True
    assert "take" in body["message"]
    assert sum(services.queue.counts().values()) == 0


def test_every_preset_has_a_sentence_an_image_and_its_choices(viewer, nobody):
    found = {preset["name"]: preset for preset in viewer.get("/api/presets").json()}

    assert found["upscale"]["scales"] == ["auto", 1, 2, 4]
    assert found["sound-only"]["copies_picture"] is True
    assert found["sound-only"]["codecs"] == []
    for preset in found.values():
        assert preset["sentence"].endswith(".")
        assert nobody.get(preset["picture"]).status_code == 200


def test_jobs_are_filtered_and_counted_on_the_server(admin, operator, viewer, services, add_job):
    for number in range(3):
        add_job(operator.user, title=f"ocean {number}.mp4")
    add_job(viewer.user, title="talk.mp4")
    add_job(None, title="ocean from a folder.mp4")

    page = admin.get("/api/jobs", params={"text": "OCEAN", "limit": 2}).json()
    own = admin.get("/api/jobs", params={"owner": operator.user.id, "text": "ocean", "limit": 1, "offset": 1}).json()

    assert (len(page["jobs"]), page["total"]) == (2, 4)
    assert (len(own["jobs"]), own["total"]) == (1, 3)
    assert admin.get("/api/jobs", params={"preset": "surveillance"}).json()["total"] == 0
    assert admin.get("/api/jobs", params={"preset": "upscale", "state": "queued"}).json()["total"] == 5
    moment = services.queue.list()[0].created_at
    assert admin.get("/api/jobs", params={"since": moment}).json()["total"] == 1
    assert admin.get("/api/jobs", params={"until": moment}).json()["total"] == 4


def test_users_see_only_their_own_jobs_where_that_is_set(settings, operator, viewer, admin, services, add_job):
    own, other = add_job(operator.user, title="mine.mp4"), add_job(viewer.user, title="theirs.mp4")
    nobodys = add_job(None, title="folder.mp4")
    assert operator.get("/api/jobs").json()["total"] == 3

    object.__setattr__(services, "settings", settings.model_copy(update={"own_jobs_only": True}))

    assert operator.get("/api/session").json()["own_jobs_only"] is True
    listed = operator.get("/api/jobs").json()
    assert ([job["id"] for job in listed["jobs"]], listed["total"], listed["counts"]["queued"]) == ([own.id], 1, 1)
    assert operator.get("/api/jobs", params={"owner": viewer.user.id}).json()["total"] == 1
    assert operator.get(f"/api/jobs/{own.id}").status_code == 200
    for job in (other, nobodys):
        for path in ("", "/result", "/report", "/report/text", "/report/page", "/thumbnail", "/after", "/sound-before"):
            answer = operator.get(f"/api/jobs/{job.id}{path}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found"), path
        assert operator.get("/api/results.zip", params={"jobs": job.id}).status_code == 404
        assert operator.post(f"/api/jobs/{job.id}/pause").status_code == 404
        assert operator.delete(f"/api/jobs/{job.id}").status_code == 404
    assert admin.get("/api/jobs").json()["total"] == 3
