"""Gives a finished file its name exactly once, whenever the worker is killed.

What is about to happen is noted in the database first. Afterwards the file that has the noted name, size and time of
change is that result, and a worker that comes later does not make it again.
"""

from dataclasses import replace
from pathlib import Path

from appliance.jobs.holding import Holding, Publication
from appliance.jobs.places import free_names
from runtime.errors import OutputError
from runtime.media.publish import publish_file


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
    """Give the result of an earlier attempt, None where it did not come to one.

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
