"""What a reporter takes for a sign of life, and what not."""

import threading
import time

import pytest

from appliance.jobs.progress_reporter import DiskRoom, Reporter
from appliance.jobs.queue import JobQueue
from runtime.options import Progress


class SlowQueue(JobQueue):
    """A queue whose questions take the reporter's own time, as they do on a busy machine."""

    left, done = 0, threading.Event()

    def wish(self, job_id, worker):
        end = time.thread_time() + 0.05
        while time.thread_time() < end:
            pass
        self.left -= 1
        if self.left == 0:
            self.done.set()
        return super().wish(job_id, worker)


@pytest.fixture
def reporting(database, add, data):
    add("clip")
    queue = SlowQueue(database)
    job = queue.claim("cpu")
    with Reporter(queue, job, "cpu", stopping=threading.Event(), room=DiskRoom(data, 0)) as reporter:
        yield queue, reporter


def beats_after_questions(queue, number):
    """Do nothing at all meanwhile: that would be work."""
    queue.done.clear()
    queue.left = number
    assert queue.done.wait(60)
    return queue.beats("cpu")


def test_the_time_that_the_reporter_takes_itself_is_no_sign_of_life(reporting):
    queue, _ = reporting
    beats_after_questions(queue, 2)

    before = queue.beats("cpu")

    assert beats_after_questions(queue, 6) == before


def test_work_and_progress_are_signs_of_life(reporting, until):
    queue, reporter = reporting
    beats_after_questions(queue, 2)

    before = queue.beats("cpu")
    reporter.progress(Progress("enhancing", 1, 2))
    until(lambda: queue.beats("cpu") > before)

    before = queue.beats("cpu")
    ends = threading.Event()
    worker = threading.Thread(target=lambda: [None for _ in iter(ends.is_set, True)])
    worker.start()
    try:
        until(lambda: queue.beats("cpu") > before + 1)
    finally:
        ends.set()
        worker.join()
