"""What decides every bit of a job's result, as text: a workspace is gone on with only where all of it is the same."""

import json
import platform
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from runtime.errors import DecodeError
from runtime.media.mux import FORMATS
from runtime.segments.durable import mark_file
from runtime.segments.rule import SegmentRule
from runtime.version import relume_version
from runtime.work import Work

# Their arithmetic and their encoders decide the last bits.
_LIBRARIES: Final = ("av", "numba", "numpy", "onnxruntime", "soxr")
# Allowing to replace the target changes nothing of the result.
_NOT_DECISIVE: Final = ("overwrite",)


def find_facts(work: Work, *, backend: str, rule: SegmentRule) -> dict[str, str]:
    """Give what decides a job's result, under names that are told to the user when one of them changed."""
    options = {name: value for name, value in asdict(work.options).items() if name not in _NOT_DECISIVE}
    models = [model for model in (work.video_model, work.sound_model) if model is not None]
    return {
        "source": find_source(work.info.path),
        "options": json.dumps(options, default=str, sort_keys=True),
        "container": FORMATS.get(work.target.suffix.lower(), ""),
        "models": ", ".join(f"{model.manifest.name} {model.manifest.files[0].sha256}" for model in models),
        "engine": backend,
        "segments": f"{rule.at_least} to {rule.at_most}",
        "program": ", ".join([f"relume {relume_version()}", *map(_version, _LIBRARIES), platform.machine()]),
    }


def find_source(path: Path) -> str:
    """Give what tells a source from any other file, and from itself after a change.

    Raises:
        DecodeError: It cannot be read.
    """
    try:
        mark, changed_ns = mark_file(path), path.stat().st_mtime_ns
    except OSError as error:
        raise DecodeError(f"{path} cannot be read: {error.strerror}; check that it is still there") from error
    return f"{mark.size_bytes} bytes, {changed_ns} ns, {mark.sha256}"


def _version(library: str) -> str:
    try:
        return f"{library} {version(library)}"
    except PackageNotFoundError:
        return f"{library} missing"
