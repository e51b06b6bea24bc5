"""What a reporter counts as a sign of life."""

import threading
import time

import pytest

from appliance.jobs.lease import JobLease
from appliance.jobs.progress_reporter import DiskReserve, ProgressReporter
from runtime.progress import Progress


class SlowLease(JobLease):
    """A lease whose queries use the reporter's CPU time, as on a busy machine."""

    left, done = 0, threading.Event()

    def command(self, job_id):
        end = time.thread_time() + 0.05
        while time.thread_time() < end:
            pass
        self.left -= 1
        if self.left == 0:
            self.done.set()
        return super().command(job_id)


@pytest.fixture
def reporting(database, add, data):
    add("clip")
    lease = SlowLease(database, "cpu")
    job = lease.claim()
    with ProgressReporter(lease, job, stopping=threading.Event(), reserve=DiskReserve(data, 0)) as reporter:
        yield lease, reporter


def beats_after_questions(lease, number):
    """Do nothing at all meanwhile, since that would count as work."""
    lease.done.clear()
    lease.left = number
    assert lease.done.wait(60)
    return lease.heartbeats()


def test_the_time_that_the_reporter_takes_itself_is_no_sign_of_life(reporting):
    lease, _ = reporting
    beats_after_questions(lease, 2)

    before = lease.heartbeats()

    # Another thread of the tests may be active meanwhile; the reporter's own time would be one for each query.
    assert beats_after_questions(lease, 6) <= before + 2


def test_work_and_progress_are_signs_of_life(reporting, until):
    lease, reporter = reporting
    beats_after_questions(lease, 2)

    before = lease.heartbeats()
    reporter.progress(Progress("enhancing", 1, 2))
    until(lambda: lease.heartbeats() > before)

    before = lease.heartbeats()
    ends = threading.Event()
    worker = threading.Thread(target=lambda: [None for _ in iter(ends.is_set, True)])
    worker.start()
    try:
        until(lambda: lease.heartbeats() > before + 1)
    finally:
        ends.set()
        worker.join()


def test_a_reading_of_the_memory_that_fails_does_not_end_the_reporter(reporting, monkeypatch):
    lease, reporter = reporting
    beats_after_questions(lease, 1)

    def sample():
        raise MemoryError

    monkeypatch.setattr(reporter.gauge, "sample", sample)

    beats_after_questions(lease, 3)
    assert reporter._thread.is_alive()
