import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from appliance.watch.errors import UnreadableError
from appliance.watch.integrity_process import Inspector
from runtime.errors import CancelledError
from runtime.options import EnhanceOptions

ROOT = Path(__file__).resolve().parents[3]


def speaking(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", f"import sys\nfor line in sys.stdin:\n    {code}")


def readers() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


def test_the_reader_answers_for_good_and_bad_files_and_lives_on(tmp_path, make_media):
    good, bad = make_media(tmp_path / "good.mkv"), tmp_path / "bad.mp4"
    bad.write_bytes(b"")
    with Inspector() as inspector:
        assert inspector.inspect(str(good), EnhanceOptions()) == ".mkv"
        children = readers()
        with pytest.raises(UnreadableError, match=r"^is empty; copy it again from its source$"):
            inspector.inspect(str(bad), EnhanceOptions())
        with pytest.raises(UnreadableError, match=r"^does not exist"):
            inspector.inspect(str(tmp_path / "gone.mp4"), EnhanceOptions())
        assert inspector.inspect(str(good), EnhanceOptions(preset="archive")) == ".mkv"
        assert readers() == children
        mine = inspector._process.pid
        assert mine in children
    assert mine not in readers()


def test_a_file_that_crashes_the_reader_is_reported_and_the_next_is_read(tmp_path, make_media):
    path = str(make_media(tmp_path / "clip.mkv"))
    with Inspector(command=speaking("import os; os.abort()")) as inspector:
        with pytest.raises(UnreadableError, match=r"file is damaged: the process that read it crashed"):
            inspector.inspect(path, EnhanceOptions())
        inspector._command = Inspector()._command
        assert inspector.inspect(path, EnhanceOptions()) == ".mkv"


def test_a_file_that_is_read_forever_is_reported():
    with Inspector(command=speaking("import time; time.sleep(600)"), timeout_s=0.3) as inspector:
        with pytest.raises(UnreadableError, match=r"took longer than 0\.3 s"):
            inspector.inspect("/x", EnhanceOptions())
        assert inspector._process is None


def test_waiting_for_the_reader_can_be_cancelled():
    begun = time.monotonic()
    with (
        Inspector(command=speaking("import time; time.sleep(600)")) as inspector,
        pytest.raises(CancelledError),
    ):
        inspector.inspect("/x", EnhanceOptions(), is_cancelled=lambda: True)
    assert time.monotonic() - begun < 30


def test_a_reader_in_the_middle_of_a_file_ends_with_its_parent():
    script = """
import sys, threading
from appliance.watch.integrity_process import Inspector
from runtime.options import EnhanceOptions
code = "import time, appliance.watch.integrity_process as p; p.answer = lambda request: time.sleep(600); p.main()"
inspector = Inspector(command=(sys.executable, "-c", code))
threading.Thread(target=inspector.inspect, args=("/x", EnhanceOptions()), daemon=True).start()
while inspector._process is None:
    pass
print(inspector._process.pid, flush=True)
sys.stdin.read()
"""
    asker = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    deadline = time.monotonic() + 60
    with asker:
        reader = psutil.Process(int(asker.stdout.readline()))
        while reader.num_threads() < 2:
            assert time.monotonic() < deadline, "the reader did not begin"
            time.sleep(0.05)
        asker.kill()
        asker.communicate()

    reader.wait(max(1.0, deadline - time.monotonic()))


def test_what_libraries_print_is_no_answer():
    code = (
        "import appliance.watch.integrity_process as reader; original = reader.answer\n"
        "def answer(request):\n    print('noise'); return original(request)\n"
        "reader.answer = answer; reader.main()"
    )
    with (
        Inspector(command=(sys.executable, "-c", code)) as inspector,
        pytest.raises(UnreadableError, match=r"does not exist"),
    ):
        inspector.inspect(str(Path("/nowhere/clip.mp4")), EnhanceOptions())


def test_a_transport_stream_with_a_hole_to_its_end_is_no_fault_of_its_permissions(tmp_path, make_media):
    path = make_media(tmp_path / "air.ts")
    os.truncate(path, 1 << 25)

    with Inspector() as inspector:
        try:
            reason = inspector.inspect(str(path), EnhanceOptions())
        except UnreadableError as error:
            reason = str(error)

    assert reason == ".mp4" or reason.startswith("file is")
