"""What decides every bit of a job's result, as text: a workspace is gone on with only where all of it is the same."""

import json
import platform
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from runtime.atomic_files import mark_file
from runtime.engine.choose import Choice
from runtime.errors import DecodeError
from runtime.media.muxer import FORMATS
from runtime.plan import Selection, Work
from runtime.resume.writer import SegmentRule
from runtime.version import relume_version

# Their arithmetic and their encoders decide the last bits.
_LIBRARIES: Final = ("av", "numba", "numpy", "onnxruntime", "soxr")
# They decide whether the job goes on and its result gets its name, not what is in it.
_NOT_DECISIVE: Final = ("overwrite", "keep_unverified", "allow_damaged")


def find_facts(work: Work, selection: Selection, *, rule: SegmentRule) -> dict[str, str]:
    """Return what decides a job's result, under names that are told to the user when one of them changed."""
    return {
        "source": find_source(work.info.path),
        "options": describe_options(work),
        "container": FORMATS.get(work.target.suffix.lower(), ""),
        "models": ", ".join(map(_describe_files, selection.choices)),
        "engine": selection.marks(),
        "segments": f"{rule.at_least} to {rule.at_most}",
        "program": ", ".join([f"relume {relume_version()}", *map(_version, _LIBRARIES), platform.machine()]),
    }


def describe_options(work: Work) -> str:
    """Return those of a job's options that decide its result."""
    options = {name: value for name, value in asdict(work.options).items() if name not in _NOT_DECISIVE}
    return json.dumps(options, default=str, sort_keys=True)


def find_source(path: Path) -> str:
    """Return what tells a source from any other file, and from itself after a change.

    Raises:
        DecodeError: It cannot be read.
    """
    try:
        mark, changed_ns = mark_file(path), path.stat().st_mtime_ns
    except OSError as error:
        raise DecodeError(f"{path} cannot be read: {error.strerror}; check that it is still there") from error
    return f"{mark.size_bytes} bytes, {changed_ns} ns, {mark.sha256}"


def _describe_files(choice: Choice) -> str:
    manifest = choice.model.manifest
    digests = [file.sha256 for file in manifest.files if file.precision == choice.backend.precision]
    return " ".join([manifest.name, *digests])


def _version(library: str) -> str:
    try:
        return f"{library} {version(library)}"
    except PackageNotFoundError:
        return f"{library} missing"
