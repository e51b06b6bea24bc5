"""Gives a finished file its name exactly once, whenever the worker is killed.

What is about to happen is noted in the database first. Afterwards the file that has the noted name, size and time of
change is that result, and a worker that comes later does not make it again.
"""

import logging
import os
import re
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Final, TypeVar

from appliance.jobs.errors import JobLostError, code_of
from appliance.jobs.job import Blame, JobBounds, JobRecord, Wish
from appliance.jobs.job_files import (
    JobFiles,
    free_names,
    make_result_folder,
    remove_unfinished,
    result_name,
    staged_path,
)
from appliance.jobs.lease import Holding, Publication
from appliance.jobs.progress_reporter import DiskRoom, Reporter
from appliance.jobs.queue import JobQueue
from appliance.settings import engines_folder
from appliance.store.errors import StoreError
from runtime.atomic_files import publish_file
from runtime.errors import CancelledError, DecodeError, OutputError, RelumeError, VerificationError
from runtime.media.demux import hold_source
from runtime.options import EnhanceOptions
from runtime.report import Report, report_from_json, write_report
from runtime.resume.writer import SegmentRule


def publish_once(queue: Holding, job_id: str, worker: str, staged: Path, wanted: Path) -> Path:
    """Rename a staged file to the wanted name, or to the next one that is free.

    Returns:
        The name that it got.

    Raises:
        OutputError: The file system refuses.
        JobLostError: The worker no longer holds the job.
    """
    _remove_placeholder(queue.publication(job_id))
    facts = staged.stat()
    for path in free_names(wanted):
        publication = Publication(path, facts.st_size, facts.st_mtime_ns)
        queue.note_publication(job_id, worker, publication)
        try:
            publish_file(staged, path, overwrite=False)
        except OutputError as error:
            if isinstance(error.__cause__, FileExistsError):
                continue
            raise
        queue.note_publication(job_id, worker, replace(publication, is_done=True))
        return path
    raise AssertionError("there is always one more name")


def find_published(queue: Holding, job_id: str, worker: str) -> Path | None:
    """Return the result of an earlier attempt, None where it did not come to one.

    Raises:
        JobLostError: The worker no longer holds the job.
    """
    publication = queue.publication(job_id)
    if publication is None:
        return None
    if not publication.is_done:
        if not publication.is_there():
            return None
        queue.note_publication(job_id, worker, replace(publication, is_done=True))
    return publication.path


def _remove_placeholder(publication: Publication | None) -> None:
    """Remove the empty file that reserves a name where there are no hard links, left by a worker that was killed."""
    if publication is not None and publication.size_bytes and not publication.is_done:
        try:
            if publication.path.stat().st_size == 0:
                publication.path.unlink()
        except OSError:
            return


logger = logging.getLogger(__name__)

PREVIEW_S: Final = 3
SHORT_OF_MEMORY: Final = (
    "there is not enough memory for this job; choose a smaller size (x2, or the same size), end other programs, "
    "or allow the worker more memory in the settings"
)
_NO_COMPARISON: Final = "the result is complete, but there is no comparison"
_STORE_AGAIN_S: Final = 1.0

# How the libraries tell of an allocation that was refused.
_NO_MEMORY: Final = re.compile(r"cannot allocate memory|bad.?alloc|out of memory|std::bad", re.IGNORECASE)

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Conduct:
    """How a worker goes about jobs.

    `threads`, `backend` and `precision` are for a job that does not say itself; `reserve_bytes` stay free on the data
    directory's disk; `rule` is how long segments are, None the usual.
    """

    threads: int | None = None
    reserve_bytes: int = 0
    rule: SegmentRule | None = None
    backend: str = "auto"
    precision: str = "auto"


class Attempt:
    """A claimed job in the hands of its worker; `stopping` ends it early and gives it back."""

    def __init__(
        self,
        queue: JobQueue,
        job: JobRecord,
        worker: str,
        *,
        stopping: threading.Event,
        conduct: Conduct | None = None,
    ) -> None:
        self._queue, self._job, self._worker = queue, job, worker
        self._stopping, self._conduct = stopping, conduct or Conduct()
        self._files: JobFiles = queue.files(job.id)
        self._options = job.options
        self._bounds: JobBounds | None = None
        self.ran_out_of_memory = False

    def run(self) -> None:
        """Bring the job to its end, or back to the queue; nothing is raised for what goes wrong with it."""
        job = self._job
        room = DiskRoom(self._queue.data, self._conduct.reserve_bytes)
        with Reporter(self._queue, job, self._worker, stopping=self._stopping, room=room) as reporter:
            try:
                result, message = self._work(reporter)
            except JobLostError as error:
                logger.warning("%s", error)
            except CancelledError:
                self._stop(reporter)
            except MemoryError as error:
                self._fail_for_memory(error)
            except StoreError as error:
                # That is not the job's fault: it is tried again as soon as the database can be used.
                logger.warning("job %s is given back: %s", job.id, error)
                self._stopping.wait(_STORE_AGAIN_S)
                self._insist(lambda: self._queue.release(self._worker, blame=Blame.NOBODY))
            except Exception as error:
                if reporter.gauge.was_near() or _NO_MEMORY.search(str(error)):
                    self._fail_for_memory(error)
                elif isinstance(error, RelumeError):
                    logger.info("job %s failed: %s", job.id, error)
                    self._fail(self._named(str(error)), code_of(error))
                else:
                    logger.exception("job %s met an unexpected error", job.id)
                    self._fail(_describe_defect(error, self._files.log), "unexpected")
            else:
                self._insist(lambda: self._queue.finish(job.id, self._worker, result, message, last=reporter.latest))
                logger.info("job %s is done: %s", job.id, result)

    def _work(self, reporter: Reporter) -> tuple[Path, str]:
        """Do what is left of the job.

        Returns:
            The result, and what the user should know about it.
        """
        job, files = self._job, self._files
        self._bounds = self._queue.bounds_of(job)
        result = find_published(self._queue, job.id, self._worker)
        with ExitStack() as stack:
            try:
                stack.enter_context(self._hold_source())
            except DecodeError:
                if result is None:
                    raise
            if result is None:
                self._make_folder()
                self._make_thumbnail()
                self._options = self._plan_options()
                result = self._enhance(reporter)
            elif job.preview_of is not None:
                with suppress(RelumeError):
                    self._options = self._plan_options()
            message = self._compare(result, reporter)
        remove_unfinished(job, files)
        files.remove_workspace()
        return result, message

    def _hold_source(self) -> AbstractContextManager[None]:
        """Read one and the same file for the whole job; that of a watch folder must be the one that was looked into."""
        job, bounds = self._job, self._bounds
        if bounds is None:
            return hold_source(job.source)
        return hold_source(job.source, below=bounds.folder, size=bounds.size, mtime_ns=bounds.mtime_ns)

    def _enhance(self, reporter: Reporter) -> Path:
        from runtime.enhance import enhance
        from runtime.plan import plan_work

        job, files = self._job, self._files
        bounds = self._bounds
        folder = make_result_folder(job, files, below=None if bounds is None else bounds.destination)
        named = job.target or plan_work(job.source, None, self._options).target
        suffix = named.suffix
        staged = staged_path(job, files, suffix)
        try:
            report = enhance(
                job.source,
                staged,
                self._options,
                on_progress=reporter.progress,
                cancel=reporter.cancel,
                workspace=files.workspace,
                rule=self._conduct.rule,
                engines=engines_folder(self._queue.data),
            )
        except VerificationError as error:
            raise _with_name(error, folder / result_name(job, suffix)) from error
        reporter.stage("publishing")
        wanted = folder / result_name(job, suffix)
        # Before the result has its name: from then on, whoever comes later does not make it again.
        write_report(_renamed(report, wanted), files.report)
        result = publish_once(self._queue, job.id, self._worker, staged, wanted)
        if result != wanted:
            with suppress(RelumeError):
                write_report(_renamed(report, result), files.report)
        return result

    def _compare(self, result: Path, reporter: Reporter) -> str:
        """Make the films to compare; the result is complete without them."""
        from appliance.jobs.previews import Pair, write_picture_proxies, write_sound_proxies

        job, files = self._job, self._files
        reporter.stage("comparing")
        try:
            report = report_from_json(files.report.read_text(encoding="utf-8"))
            pair = Pair(job.source, result, self._options.start, self._options.end)
            if report.picture is not None:
                threads = self._options.threads or len(os.sched_getaffinity(0))
                write_picture_proxies(pair, report, files.before, files.after, threads=threads, stop=reporter.cancel)
            if any(sound.mode == "speech" for sound in report.sound):
                write_sound_proxies(pair, report, files.sound_before, files.sound_after, stop=reporter.cancel)
        except CancelledError:
            # The result has its name, so it is too late for a wish.
            if self._stopping.is_set() or reporter.is_lost:
                raise
            return f"{_NO_COMPARISON}: the disk is nearly full" if reporter.is_full else ""
        except RelumeError as error:
            logger.warning("the films to compare could not be made: %s", error)
            return f"{_NO_COMPARISON}: {error}"
        except Exception as error:
            logger.exception("the films to compare could not be made")
            return f"{_NO_COMPARISON} ({type(error).__name__}); the details are in {files.log}"
        return ""

    def _plan_options(self) -> EnhanceOptions:
        """Return the options as the job runs: never over another file, a preview from the middle alone."""
        wished, conduct = self._job.options, self._conduct
        options = replace(
            wished,
            overwrite=False,
            compare=None,
            threads=wished.threads or conduct.threads,
            backend=conduct.backend if wished.backend == "auto" else wished.backend,
            precision=conduct.precision if wished.precision == "auto" else wished.precision,
        )
        if self._job.preview_of is None:
            return options
        start, end = preview_span(self._job.source, options)
        return replace(options, start=start, end=end)

    def _make_folder(self) -> None:
        try:
            self._files.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"the folder {self._files.folder} cannot be made: {error.strerror}") from error

    def _make_thumbnail(self) -> None:
        from appliance.jobs.previews import write_thumbnail

        if self._files.thumbnail.exists():
            return
        try:
            write_thumbnail(self._job.source, self._files.thumbnail)
        except (RelumeError, OSError, ValueError) as error:
            logger.info("no thumbnail: %s", error)

    def _stop(self, reporter: Reporter) -> None:
        """Let go of a job that was interrupted: as wished, or back to the queue."""
        job = self._job
        if reporter.is_lost:
            return
        if reporter.is_full:
            self._fail(reporter.room.describe(), "disk_full")
            return
        if reporter.wish is None:
            self._insist(lambda: self._queue.release(self._worker, blame=Blame.NOBODY))
            return
        if reporter.wish is Wish.CANCEL:
            self._files.remove_workspace()
            remove_unfinished(job, self._files)
        wish = reporter.wish
        self._insist(lambda: self._queue.stop(job.id, self._worker, wish))

    def _fail_for_memory(self, error: BaseException) -> None:
        self.ran_out_of_memory = True
        logger.error("job %s ran out of memory", self._job.id, exc_info=error)
        self._fail(SHORT_OF_MEMORY, "memory")

    def _fail(self, message: str, code: str) -> None:
        self._insist(lambda: self._queue.fail(self._job.id, self._worker, message, code=code))

    def _insist(self, change: Callable[[], Answer]) -> None:
        """Change the queue, waiting until that is possible; a job that has ended must not run again."""
        while True:
            try:
                change()
            except JobLostError as error:
                logger.warning("%s", error)
            except StoreError as error:
                logger.warning("the end of job %s cannot be stored yet: %s", self._job.id, error)
                # When the worker ends first, what is on the disk tells the next one how far it was.
                if self._stopping.wait(_STORE_AGAIN_S):
                    return
                continue
            return

    def _named(self, message: str) -> str:
        """Put the result's name where a message has the hidden one."""
        target = self._job.target
        hidden = f".relume-{self._job.id}"
        shown = target.stem if target is not None else "the result"
        return message.replace(hidden, shown)


def _with_name(error: VerificationError, wanted: Path) -> VerificationError:
    """Return a file whose check failed the result's name with a mark, in place of a hidden one.

    One of the same name and size is that of an earlier attempt, and is replaced: a watch folder tries again.
    """
    kept = error.kept
    if kept is None:
        return error
    first = wanted.with_name(f"{wanted.stem}.unverified{wanted.suffix}")
    is_again = first.is_file() and not first.is_symlink() and first.stat().st_size == kept.stat().st_size
    for path in [first] if is_again else free_names(first):
        try:
            publish_file(kept, path, overwrite=is_again)
        except OutputError as refusal:
            if isinstance(refusal.__cause__, FileExistsError):
                continue
            raise
        message = (
            f"the check of the finished file failed: {'; '.join(error.failures)}; it is kept as {path}: look at it"
        )
        return VerificationError(message, failures=error.failures, kept=path, report=error.report)
    raise AssertionError("there is always one more name")


def preview_span(source: Path, options: EnhanceOptions) -> tuple[Fraction | None, Fraction | None]:
    """Return three seconds in the middle of what the options take of a source, all of it where it is shorter.

    Raises:
        MediaError: The source cannot be read.
    """
    from runtime.media.probe import probe

    begin, length = options.start or Fraction(0), probe(source).duration
    end = options.end if length is None else min(length, options.end or length)
    if end is None:
        return begin, begin + PREVIEW_S
    if end - begin <= PREVIEW_S:
        return options.start, options.end
    start = begin + (end - begin - PREVIEW_S) / 2
    # Whole milliseconds are easier to read in a report.
    start = Fraction(int(start * 1000), 1000)
    return start, start + PREVIEW_S


def _renamed(report: Report, result: Path) -> Report:
    return replace(report, result=replace(report.result, path=str(result)))


def _describe_defect(error: Exception, log: Path) -> str:
    return f"unexpected error ({type(error).__name__}: {error}); the details are in {log}"
