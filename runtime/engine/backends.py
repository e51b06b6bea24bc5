"""Which backends there are on this box, and the choice of one for a job."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from runtime.engine.session import OpenSession, Session
from runtime.errors import OptionError, SessionError


@dataclass(frozen=True, slots=True)
class Backend:
    """A way to run a model: whether it can be used here, and why or why not."""

    name: str
    available: bool
    reason: str


@dataclass(frozen=True, slots=True)
class ChosenBackend:
    """The backend of a job: how it opens sessions, and why it was chosen."""

    name: str
    reason: str
    open_session: OpenSession


def list_backends() -> tuple[Backend, ...]:
    """Look for every backend, the preferred first; nothing heavy is imported."""
    if find_spec("onnxruntime") is None:
        return (Backend("cpu", available=False, reason="onnxruntime is missing; pip install onnxruntime"),)
    return (Backend("cpu", available=True, reason="onnxruntime is installed; every processor can run it"),)


def choose_backend(name: str, *, threads: int) -> ChosenBackend:
    """Choose the backend of a job.

    Args:
        name: `auto`, or a backend's name.
        threads: CPU threads that an engine may use.

    Raises:
        OptionError: No backend has that name.
        SessionError: The backend cannot be used here; the message has the remedy.
    """
    backends = {backend.name: backend for backend in list_backends()}
    if name not in {"auto", *backends}:
        raise OptionError(f"no backend named {name!r}; there are: auto, {', '.join(backends)}")
    wanted = next(iter(backends)) if name == "auto" else name
    if not backends[wanted].available:
        raise SessionError(f"backend {wanted} cannot be used: {backends[wanted].reason}")
    reason = "asked for" if name != "auto" else f"the first that can be used here: {backends[wanted].reason}"
    return ChosenBackend(wanted, reason, _cpu_opener(threads))


def _cpu_opener(threads: int) -> OpenSession:
    def open_session(path: Path, *, dimensions: Mapping[str, int], precision: str) -> Session:
        from runtime.engine.onnxruntime_cpu import OnnxRuntimeCpuSession

        return OnnxRuntimeCpuSession(path, dimensions=dimensions, precision=precision, threads=threads)

    return open_session
