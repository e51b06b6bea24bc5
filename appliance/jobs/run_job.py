"""One attempt at a job: enhance, publish the result exactly once, write its preview proxies.

A publication is recorded in the database before its first step. Afterwards the file that has the recorded name, size
and time of change is that result, and a later worker does not make it again.
"""

import logging
import os
import re
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Final, TypeVar

from appliance.jobs.errors import JobLostError, code_of
from appliance.jobs.job import ExitCause, JobBounds, JobCommand, JobRecord, WorkerOptions
from appliance.jobs.job_files import (
    JobFiles,
    free_names,
    make_result_folder,
    remove_unfinished,
    result_name,
    staged_path,
)
from appliance.jobs.job_table import Publication
from appliance.jobs.lease import JobLease
from appliance.jobs.progress_reporter import DiskReserve, ProgressReporter
from appliance.settings import engines_folder
from appliance.store.errors import StoreError
from runtime.atomic_files import publish_file
from runtime.errors import CancelledError, DecodeError, OutputError, RelumeError
from runtime.media.demux import hold_source
from runtime.options import EnhanceOptions
from runtime.report import Report, VerificationError, report_from_json, write_report


def publish_once(lease: JobLease, job_id: str, staged: Path, wanted: Path) -> Path:
    """Rename a staged file to the wanted name, or to the next one that is free.

    Returns:
        The path of the result.

    Raises:
        OutputError: The file cannot be renamed.
        JobLostError: The worker no longer holds the job.
    """
    _remove_placeholder(lease.publication(job_id))
    facts = staged.stat()
    for path in free_names(wanted):
        publication = Publication(path, facts.st_size, facts.st_mtime_ns)
        lease.set_publication(job_id, publication)
        try:
            publish_file(staged, path, overwrite=False)
        except OutputError as error:
            if isinstance(error.__cause__, FileExistsError):
                continue
            raise
        lease.set_publication(job_id, replace(publication, is_done=True))
        return path
    raise AssertionError("there is always one more name")


def find_published(lease: JobLease, job_id: str) -> Path | None:
    """Return the result that an earlier attempt published, None where there is none.

    Raises:
        JobLostError: The worker no longer holds the job.
    """
    publication = lease.publication(job_id)
    if publication is None:
        return None
    if not publication.is_done:
        if not publication.is_there():
            return None
        lease.set_publication(job_id, replace(publication, is_done=True))
    return publication.path


def _remove_placeholder(publication: Publication | None) -> None:
    """Remove the empty file with which a killed worker reserved a name on a file system without hard links."""
    if publication is not None and publication.size_bytes and not publication.is_done:
        try:
            if publication.path.stat().st_size == 0:
                publication.path.unlink()
        except OSError:
            return


logger = logging.getLogger(__name__)

PREVIEW_S: Final = 3
SHORT_OF_MEMORY: Final = (
    "there is not enough memory for this job; choose a smaller size (x2, or the same size), close other programs, "
    "or raise the worker's memory limit in the settings"
)
_NO_PREVIEW: Final = "the result is complete, but its preview videos could not be created"
_STORE_RETRY_S: Final = 1.0

# Messages of libraries whose allocation was refused.
_NO_MEMORY: Final = re.compile(
    r"cannot allocate memory|unable to allocate|bad.?alloc|out of memory|std::bad|can't start new thread|"
    r"failed to map segment",
    re.IGNORECASE,
)

Answer = TypeVar("Answer")


class Attempt:
    """One attempt at a claimed job; `stopping` ends it early and releases the job."""

    def __init__(
        self,
        lease: JobLease,
        job: JobRecord,
        *,
        stopping: threading.Event,
        worker_options: WorkerOptions | None = None,
    ) -> None:
        self._lease, self._job = lease, job
        self._stopping, self._worker_options = stopping, worker_options or WorkerOptions()
        self._files = JobFiles(lease.data, job.id)
        self._options = job.options
        self._bounds: JobBounds | None = None
        self.ran_out_of_memory = False

    def run(self) -> None:
        """Run the job to its end, or return it to the queue; its errors are recorded, not raised."""
        job = self._job
        reserve = DiskReserve(self._lease.data, self._worker_options.reserve_bytes)
        try:
            reporting = ProgressReporter(self._lease, job, stopping=self._stopping, reserve=reserve)
        except (MemoryError, RuntimeError) as error:  # there is no memory for the stack of its thread
            self._fail_for_memory(error)
            return
        with reporting as reporter:
            try:
                result, message = self._work(reporter)
            except JobLostError as error:
                logger.warning("%s", error)
            except CancelledError:
                self._stop(reporter)
            except MemoryError as error:
                self._fail_for_memory(error)
            except StoreError as error:
                # Not the job's fault: it is run again as soon as the database can be used.
                logger.warning("job %s is released: %s", job.id, error)
                self._stopping.wait(_STORE_RETRY_S)
                self._insist(lambda: self._lease.release(cause=ExitCause.REQUESTED))
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
                self._insist(lambda: self._lease.finish(job.id, result, message, last=reporter.latest))
                logger.info("job %s is done: %s", job.id, result)

    def _work(self, reporter: ProgressReporter) -> tuple[Path, str]:
        """Do the remaining steps of the job.

        Returns:
            The path of the result, and a message for the user.
        """
        job, files = self._job, self._files
        self._bounds = self._lease.bounds_of(job)
        result = find_published(self._lease, job.id)
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
            message = self._write_proxies(result, reporter)
        remove_unfinished(job, files)
        files.remove_workspace()
        return result, message

    def _hold_source(self) -> AbstractContextManager[None]:
        """Hold the source open for the whole job; a file of a watch folder must be the validated one."""
        job, bounds = self._job, self._bounds
        if bounds is None:
            return hold_source(job.source)
        return hold_source(job.source, below=bounds.folder, size=bounds.size, mtime_ns=bounds.mtime_ns)

    def _enhance(self, reporter: ProgressReporter) -> Path:
        from runtime.enhance import enhance
        from runtime.plan import plan_job
        from runtime.resume.writer import SegmentRule

        job, files, frames = self._job, self._files, self._worker_options.segment_frames
        bounds = self._bounds
        folder = make_result_folder(job, files, below=None if bounds is None else bounds.destination)
        named = job.target or plan_job(job.source, None, self._options).target
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
                rule=None if frames is None else SegmentRule(*frames),
                engines=engines_folder(self._lease.data),
            )
        except VerificationError as error:
            raise _with_name(error, folder / result_name(job, suffix)) from error
        reporter.stage("publishing")
        wanted = folder / result_name(job, suffix)
        # Before the result has its name: from then on, later attempts do not make it again.
        write_report(_renamed(report, wanted), files.report)
        result = publish_once(self._lease, job.id, staged, wanted)
        if result != wanted:
            with suppress(RelumeError):
                write_report(_renamed(report, result), files.report)
        return result

    def _write_proxies(self, result: Path, reporter: ProgressReporter) -> str:
        """Write the preview proxies; the result is complete without them. Return a message for the user."""
        from appliance.jobs.previews import Pair, write_audio_proxies, write_video_proxies

        job, files = self._job, self._files
        reporter.stage("comparing")
        try:
            report = report_from_json(files.report.read_text(encoding="utf-8"))
            pair = Pair(job.source, result, self._options.start, self._options.end)
            if report.picture is not None:
                threads = self._options.threads or len(os.sched_getaffinity(0))
                write_video_proxies(pair, report, files, threads=threads, stop=reporter.cancel)
            if any(audio.mode == "speech" for audio in report.sound):
                write_audio_proxies(pair, report, files.sound_before, files.sound_after, stop=reporter.cancel)
        except CancelledError:
            # The result has its name: it is too late for a command.
            if self._stopping.is_set() or reporter.is_lost:
                raise
            return f"{_NO_PREVIEW}: the disk is nearly full" if reporter.is_full else ""
        except RelumeError as error:
            logger.warning("the preview proxies could not be written: %s", error)
            return f"{_NO_PREVIEW}: {error}"
        except Exception as error:
            logger.exception("the preview proxies could not be written")
            return f"{_NO_PREVIEW} ({type(error).__name__}); see {files.log}"
        return ""

    def _plan_options(self) -> EnhanceOptions:
        """Return the options of this run: the worker's defaults applied, a preview limited to the middle."""
        wanted, defaults = self._job.options, self._worker_options
        options = replace(
            wanted,
            overwrite=False,
            compare=None,
            threads=wanted.threads or defaults.threads,
            backend=defaults.backend if wanted.backend == "auto" else wanted.backend,
            precision=defaults.precision if wanted.precision == "auto" else wanted.precision,
        )
        if self._job.preview_of is None:
            return options
        start, end = preview_span(self._job.source, options)
        return replace(options, start=start, end=end)

    def _make_folder(self) -> None:
        try:
            self._files.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"the folder {self._files.folder} cannot be created: {error.strerror}") from error

    def _make_thumbnail(self) -> None:
        from appliance.jobs.previews import write_thumbnail

        if self._files.thumbnail.exists():
            return
        try:
            write_thumbnail(self._job.source, self._files.thumbnail)
        except (RelumeError, OSError, ValueError) as error:
            logger.info("no thumbnail: %s", error)

    def _stop(self, reporter: ProgressReporter) -> None:
        """Release a job that was interrupted: paused, cancelled, failed, or back to the queue."""
        job = self._job
        if reporter.is_lost:
            return
        if reporter.is_full:
            self._fail(reporter.reserve.describe(), "disk_full")
            return
        command = reporter.command
        if command is None:
            self._insist(lambda: self._lease.release(cause=ExitCause.REQUESTED))
            return
        if command is JobCommand.CANCEL:
            self._files.remove_workspace()
            remove_unfinished(job, self._files)
        self._insist(lambda: self._lease.stop(job.id, command))

    def _fail_for_memory(self, error: BaseException) -> None:
        self.ran_out_of_memory = True
        logger.error("job %s ran out of memory", self._job.id, exc_info=error)
        self._fail(SHORT_OF_MEMORY, "memory")

    def _fail(self, message: str, code: str) -> None:
        self._insist(lambda: self._lease.fail(self._job.id, message, code=code))

    def _insist(self, change: Callable[[], Answer]) -> None:
        """Change the queue, waiting until that is possible: a job that has ended must not run again."""
        while True:
            try:
                change()
            except JobLostError as error:
                logger.warning("%s", error)
            except StoreError as error:
                logger.warning("the end of job %s cannot be stored yet: %s", self._job.id, error)
                # When the worker ends first, the next one resumes from the files.
                if self._stopping.wait(_STORE_RETRY_S):
                    return
                continue
            return

    def _named(self, message: str) -> str:
        """Replace the hidden name in a message by the result's name."""
        target = self._job.target
        hidden = f".relume-{self._job.id}"
        shown = target.stem if target is not None else "the result"
        return message.replace(hidden, shown)


def _with_name(error: VerificationError, wanted: Path) -> VerificationError:
    """Rename a result that failed its verification to `NAME.unverified.SUFFIX`; return the error with that path.

    A file of the same name and size is that of an earlier attempt, and is replaced: a watch folder retries.
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
        message = f"verification of the finished file failed: {'; '.join(error.failures)}; it is kept as {path}"
        return VerificationError(message, failures=error.failures, kept=path, report=error.report)
    raise AssertionError("there is always one more name")


def preview_span(source: Path, options: EnhanceOptions) -> tuple[Fraction | None, Fraction | None]:
    """Return the middle three seconds of the part of a source that the options select, all of a shorter one.

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
    # Whole milliseconds, for the report.
    start = Fraction(int(start * 1000), 1000)
    return start, start + PREVIEW_S


def _renamed(report: Report, result: Path) -> Report:
    return replace(report, result=replace(report.result, path=str(result)))


def _describe_defect(error: Exception, log: Path) -> str:
    return f"unexpected error ({type(error).__name__}: {error}); the details are in {log}"
