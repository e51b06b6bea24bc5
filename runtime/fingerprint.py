"""The fingerprint of a job: all that determines the bits of its result; a workspace resumes only if it is equal."""

import json
import platform
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from runtime.atomic_files import read_signature
from runtime.backend_selection import JobBackends
from runtime.engine.choose import Choice
from runtime.errors import DecodeError
from runtime.media.muxer import FORMATS
from runtime.plan import JobPlan
from runtime.resume.writer import SegmentRule
from runtime.version import relume_version

# Their arithmetic and their encoders determine the last bits.
_LIBRARIES: Final = ("av", "numba", "numpy", "onnxruntime", "soxr")
# They determine whether the job continues and the result gets its name, not its content.
_NOT_DECISIVE: Final = ("overwrite", "keep_unverified", "allow_damaged")


def compute_fingerprint(plan: JobPlan, backends: JobBackends, *, rule: SegmentRule) -> dict[str, str]:
    """Return the fingerprint by part; the user sees the names of parts that changed."""
    return {
        "source": identify_source(plan.info.path),
        "options": describe_options(plan),
        "container": FORMATS.get(plan.target.suffix.lower(), ""),
        "models": ", ".join(map(_describe_files, backends.choices)),
        "engine": backends.engine_fingerprint(),
        "segments": f"{rule.at_least} to {rule.at_most}",
        "program": ", ".join([f"relume {relume_version()}", *map(_version, _LIBRARIES), platform.machine()]),
    }


def describe_options(plan: JobPlan) -> str:
    """Return the options that determine the result."""
    options = {name: value for name, value in asdict(plan.options).items() if name not in _NOT_DECISIVE}
    return json.dumps(options, default=str, sort_keys=True)


def identify_source(path: Path) -> str:
    """Return the size, time of change and digest of a source.

    Raises:
        DecodeError: It cannot be read.
    """
    try:
        mark, changed_ns = read_signature(path), path.stat().st_mtime_ns
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
