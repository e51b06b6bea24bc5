import pytest

from appliance.accounts.roles import Role
from appliance.jobs.records import NewJob
from runtime.manifest import find_model, zoo_folder
from runtime.options import AudioMode, Codec, EnhanceOptions, Progress


@pytest.fixture
def uploaded(operator, clip_bytes):
    upload_id = operator.upload("clip.mp4", clip_bytes)
    operator.checked(upload_id)
    return upload_id


def test_a_job_takes_its_wishes_and_its_upload(operator, uploaded, services, stored):
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
    assert (again.status_code, again.json()["error"]["message"][:27]) == (422, "clip.mp4 has a job already;")
    assert sum(services.queue.counts().values()) == 1


def test_the_boxs_own_models_are_offered_and_a_damaged_one_is_left_out(operator, tmp_path):
    assert operator.get("/api/models").json() == []
    for name in ("light-x2", "speech-mask", "damaged"):
        (tmp_path / "zoo" / name).mkdir(parents=True)
        source = zoo_folder() / name / "manifest.json"
        (tmp_path / "zoo" / name / "manifest.json").write_text(source.read_text() if source.exists() else "{")

    (offered,) = operator.get("/api/models").json()

    assert (offered["name"], offered["scale"]) == ("light-x2", 2)
    assert offered["title"] == find_model("light-x2").manifest.title


def test_a_job_can_name_a_model_of_the_box_or_one_that_ships(operator, uploaded, services, tmp_path):
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


def test_a_wish_that_cannot_be_is_refused_and_the_upload_stays(operator, uploaded, services):
    for wishes in (
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
        answer = operator.post("/api/jobs", {"file": uploaded, **wishes})

        assert answer.status_code in (404, 422), wishes
        assert answer.json()["error"]["message"]
    assert sum(services.queue.counts().values()) == 0
    assert [file["id"] for file in operator.get("/api/files").json()] == [uploaded]


def test_a_file_that_is_nothing_to_enhance_gets_no_job(operator, stored):
    upload_id = operator.upload("list.m3u8", b"#EXTM3U\n#EXTINF:10,\nhttp://192.0.2.1/x.ts\n")

    answer = operator.post("/api/jobs", {"file": upload_id})

    assert answer.status_code == 422
    assert answer.json()["error"]["message"].startswith("list.m3u8 is a list of other files or addresses")
    assert operator.checked(upload_id)["error"] == answer.json()["error"]["message"]
    assert not stored(upload_id).exists()


def test_a_file_that_has_not_arrived_gets_no_job(operator):
    upload_id = operator.begin_upload("clip.mp4", 100).headers["location"].rpartition("/")[2]

    answer = operator.post("/api/jobs", {"file": upload_id})

    assert answer.status_code == 422
    assert "has not arrived completely" in answer.json()["error"]["message"]


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


def test_a_job_is_steered_by_its_owner_and_the_administrator_alone(operator, admin, log_in, add_job, services):
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


def test_what_makes_no_sense_in_a_state_is_refused_in_words(operator, add_job):
    job = add_job(operator.user, "clip.mp4")

    retried = operator.post(f"/api/jobs/{job.id}/retry")
    removed = operator.delete(f"/api/jobs/{job.id}")

    assert (retried.status_code, retried.json()["error"]["code"]) == (409, "job_state")
    assert "is queued, so it cannot be tried again" in retried.json()["error"]["message"]
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

    services.uploads.tidy()

    assert stored(uploaded).is_file()


def test_what_a_worker_says_is_shown(viewer, add_job, services):
    job = add_job()
    services.queue.claim("cpu")
    services.queue.progress(job.id, "cpu", Progress("enhancing", frames_done=5, frames_total=20, fps=2.5, eta_s=6.0))

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


def test_an_estimate_is_given_before_the_job(operator, uploaded, services):
    answer = operator.post("/api/estimates", {"file": uploaded, "preset": "sound-only"})

    body = answer.json()
    assert answer.status_code == 200, answer.text
    assert body["time_s"] > 0
    assert body["fits"] is True
    assert "take" in body["message"]
    assert sum(services.queue.counts().values()) == 0


def test_every_preset_has_a_sentence_a_picture_and_its_choices(viewer, nobody):
    found = {preset["name"]: preset for preset in viewer.get("/api/presets").json()}

    assert found["upscale"]["scales"] == ["auto", 1, 2, 4]
    assert found["sound-only"]["copies_picture"] is True
    assert found["sound-only"]["codecs"] == []
    for preset in found.values():
        assert preset["sentence"].endswith(".")
        assert nobody.get(preset["picture"]).status_code == 200
