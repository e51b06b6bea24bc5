from appliance.watch.scan import ScanResult, SeenFile
from appliance.watch.stability import StabilityTracker


class Scene:
    def __init__(self, hold_s=10.0):
        self.now = 0.0
        self.tracker = StabilityTracker(hold_s, clock=lambda: self.now)

    def look(self, *, after=0.0, unfinished=(), ignore=(), **files):
        self.now += after
        found = ScanResult(unfinished={(1, inode): 1 for inode in unfinished})
        for number, (name, (size, mtime_ns)) in enumerate(files.items()):
            found.files[name] = SeenFile(name, f"/in/{name}", size, mtime_ns, (1, 100 + number))
        return [file.name for file in self.tracker.update(found, [name for name in files if name not in ignore])]


def test_a_file_is_stable_after_the_hold_time_and_three_scans():
    scene = Scene()

    assert scene.look(a=(5, 1)) == []
    assert scene.look(a=(5, 1), after=5) == []
    assert scene.look(a=(5, 1), after=5) == ["a"]


def test_the_hold_time_alone_is_not_enough():
    scene = Scene()
    scene.look(a=(5, 1))

    assert scene.look(a=(5, 1), after=1000) == []
    assert scene.look(a=(5, 1)) == ["a"]


def test_scans_alone_are_not_enough():
    scene = Scene()

    assert [scene.look(a=(5, 1), after=1) for _ in range(10)] == [[]] * 10


def test_growing_and_rewriting_restart_the_wait():
    scene = Scene()
    for size, mtime_ns in ((1, 1), (2, 1), (2, 2), (2, 0)):
        for _ in range(3):
            assert scene.look(a=(size, mtime_ns), after=4.9) == []

    assert scene.look(a=(2, 0), after=4.9) == ["a"]


def test_a_time_of_the_file_in_the_future_or_past_does_not_matter():
    scene = Scene()
    for mtime_ns in (0, 2**62):
        looks = [scene.look(a=(1, mtime_ns), after=5) for _ in range(3)]
        assert looks == [[], [], ["a"]]


def test_a_file_that_was_gone_in_between_is_waited_for_again():
    scene = Scene()
    scene.look(a=(1, 1))
    scene.look(a=(1, 1), after=9)
    scene.look(after=1)

    assert scene.look(a=(1, 1), after=1) == []


def test_a_file_that_gets_its_final_name_is_settled_at_once():
    scene = Scene()
    scene.look(unfinished=[100])

    assert scene.look(a=(7, 1)) == ["a"]


def test_a_new_name_for_a_finished_file_is_not_a_rename_from_a_temporary_one():
    scene = Scene()
    scene.look(unfinished=[555])

    assert scene.look(a=(7, 1)) == []


def test_a_sidecar_settles_at_once():
    tracker = StabilityTracker(3600.0)
    file = SeenFile("a", "/in/a", 1, 1, (1, 1), sidecar="a.ready", is_declared=True)

    assert tracker.update(ScanResult(files={"a": file}), ["a"]) == [file]


def test_files_that_are_dealt_with_are_skipped():
    scene = Scene(hold_s=0.0)

    assert [scene.look(a=(1, 1), b=(1, 1), ignore=["a"]) for _ in range(3)] == [[], [], ["b"]]
