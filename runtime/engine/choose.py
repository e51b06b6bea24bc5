"""Chooses the backend for a model: by the user's preference, else by measurements on this machine."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runtime.closing import Closing
from runtime.engine.backends import BackendInfo, find_backend, list_backends
from runtime.engine.device import EngineType
from runtime.engine.session import Array, Session, get_device_tensors
from runtime.engine.speeds import is_current, read_speeds
from runtime.errors import EngineStoreError, OpenError, OptionError, SessionError
from runtime.hardware import detect_hardware
from runtime.manifest import Model, QuantScheme, Role

if TYPE_CHECKING:
    from runtime.engine.store.store import StoredEngine

logger = logging.getLogger(__name__)

PRECISIONS: Final = ("fp32", "fp16", "int8")
MIN_SPEEDUP: Final = 1.1
"""The speed-up at which a backend replaces a more accurate one."""


@dataclass(frozen=True, slots=True)
class BackendPreference:
    """The backend and precision that the user prefers: names, or `auto`."""

    backend: str = "auto"
    precision: str = "auto"


@dataclass(frozen=True, slots=True)
class ModelBackend:
    """A backend as a job uses it: a `Backend` of one precision, with its threads and the engines of this machine.

    engines: The folder of the engine store; None for no store.
    """

    info: BackendInfo
    precision: str = "fp32"
    threads: int = 1
    engines: Path | None = None

    @property
    def name(self) -> str:
        """Its name in options and settings."""
        return self.info.name

    @property
    def library(self) -> str:
        """Its library with the version."""
        return self.info.library_version

    def open(self, model: Model, role: Role, shape: Mapping[str, int]) -> Session:
        """Open a model's file of a role, or the engine that the store has for it; see `Backend.open`.

        A missing engine is requested from the store. Until then OpenVINO compiles the file itself.

        Raises:
            OpenError: The file cannot be opened, or its engine is not built yet.
        """
        info, name = self.info, model.manifest.name
        source = model.file(role=role, precision=self.precision, form=info.quant_scheme)
        engine = None if info.engine_type is None else _find_engine(source, shape, info.engine_type, self.engines)
        try:
            if engine is not None:
                return self._open_engine(engine, shape)
            if info.engine_type in (None, EngineType.OPENVINO):
                return info.open_file(source, shape, precision=self.precision, threads=self.threads)
        except OpenError:
            raise
        except SessionError as error:
            raise OpenError(str(error), model=name, backend=info.name) from error
        sizes = "x".join(str(size) for size in shape.values())
        raise OpenError(
            f"the {info.engine_type} engine for {name} {self.precision} at {sizes} is not built yet"
            + ("" if self.engines is None else "; it is requested: see `relume engines list`"),
            model=name,
            backend=info.name,
            waits=True,
        )

    def _open_engine(self, engine: "StoredEngine", shape: Mapping[str, int]) -> Session:
        try:
            session = self.info.open_file(engine.path, shape, precision=self.precision, threads=self.threads)
            return StoredEngineSession(session, engine)
        except BaseException:
            engine.close()
            raise


@dataclass(frozen=True, slots=True)
class Choice:
    """The backend that runs a model in a job, and the reason for it.

    Where its `open` raises `OpenError`, another backend is chosen. With `any_shape` it opens tiles of every shape, not
    only of those in the manifest.
    """

    model: Model
    backend: ModelBackend
    reason: str
    any_shape: bool = False


def choose_engine(
    model: Model,
    preference: BackendPreference,
    *,
    threads: int,
    engines: Path | None = None,
    kept: BackendPreference | None = None,
    without: str | None = None,
) -> Choice:
    """Choose the backend and precision for a model.

    Args:
        model: The model; it offers the precisions in which it has a file for each role.
        preference: The user's; it has priority.
        threads: CPU threads that an engine may use.
        engines: The folder of this machine's engines and measurements; None for neither.
        kept: The choice of an earlier attempt with the same preference, which is used again if possible.
        without: A backend that failed and is excluded.

    Raises:
        OptionError: No backend or precision has that name, or the model has no such file.
        SessionError: The requested backend cannot be used here.
    """
    _check(model, preference)
    backends = [backend for backend in list_backends() if backend.available and backend.name != without]
    for backend, precision in candidates_for(model, backends):
        if kept == BackendPreference(backend.name, precision):
            return _choice(model, backend, precision, "the job started with it", threads=threads, engines=engines)
    if preference.backend != "auto":
        backends = [backend for backend in backends if backend.name == preference.backend]
    candidates = [
        (backend, precision)
        for backend, precision in candidates_for(model, backends)
        if preference.precision == precision or (preference.precision == "auto" and _passed_gate(model, precision))
    ]
    if not candidates:
        raise SessionError(_nothing_runs(model, preference))
    return _choice(model, *_decide(model, candidates, preference, engines=engines), threads=threads, engines=engines)


def offered_precisions(model: Model, scheme: QuantScheme | None = None) -> tuple[str, ...]:
    """Return the precisions in which a model has a file for each of its roles, the most accurate first.

    Args:
        model: Any model.
        scheme: Of INT8 files; None for any.
    """
    files = [file for file in model.manifest.files if scheme is None or file.fits(scheme)]
    roles = {file.role for file in model.manifest.files}
    there = {(file.role, file.precision) for file in files}
    return tuple(precision for precision in PRECISIONS if all((role, precision) in there for role in roles))


def candidates_for(model: Model, backends: Iterable[BackendInfo]) -> list[tuple[BackendInfo, str]]:
    """Return every backend and precision that runs a model, the default one first."""
    found = list(backends)
    return [
        (backend, precision)
        for precision in PRECISIONS
        for backend in _in_order(found, precision)
        if precision in offered_precisions(model, backend.quant_scheme)
    ]


def _choice(
    model: Model, info: BackendInfo, precision: str, reason: str, *, threads: int, engines: Path | None
) -> Choice:
    any_shape = info.engine_type in (None, EngineType.OPENVINO) and _names_its_sides(model)
    return Choice(model, ModelBackend(info, precision, threads, engines), reason, any_shape)


def _names_its_sides(model: Model) -> bool:
    """Return whether a step's files leave height and width open; the memory of the larger kinds was not measured."""
    manifest = model.manifest
    frames = [tensor.shape for tensor in manifest.inputs if len(tensor.shape) == 4]
    return (
        manifest.video is not None
        and {file.role for file in manifest.files} == {"step"}
        and all(isinstance(side, str) for shape in frames for side in shape[2:])
    )


def _passed_gate(model: Model, precision: str) -> bool:
    """Return whether a precision may be chosen by default: the loss of INT8 files must have been measured."""
    if precision != "int8":
        return True
    files = [file for file in model.manifest.files if file.precision == precision]
    return all(file.calibration is not None and file.calibration.loss for file in files)


def _check(model: Model, preference: BackendPreference) -> None:
    """Refuse a preference that no machine can meet."""
    offered, name = offered_precisions(model), model.manifest.name
    if preference.precision not in ("auto", *PRECISIONS):
        raise OptionError(f"no precision named {preference.precision!r}; there are: auto, {', '.join(PRECISIONS)}")
    if preference.precision not in ("auto", *offered):
        raise OptionError(f"model {name} has no {preference.precision} file; it offers {', '.join(offered)}")
    if preference.backend == "auto":
        return
    runs = find_backend(preference.backend).precisions
    if preference.precision not in ("auto", *runs):
        raise OptionError(
            f"backend {preference.backend} does not run {preference.precision}; it runs {', '.join(runs)}"
        )


def _in_order(backends: Sequence[BackendInfo], precision: str) -> list[BackendInfo]:
    """Return the backends that run a precision, the default one first.

    For int8 that is OpenVINO: ONNX Runtime's own integer convolutions are slower than its float32 on these networks.
    """
    found = [backend for backend in backends if precision in backend.precisions]
    return sorted(found, key=lambda backend: backend.name == "cpu") if precision == "int8" else found


def _nothing_runs(model: Model, preference: BackendPreference) -> str:
    """Return the message for a preference that this machine cannot meet."""
    kind = "" if preference.precision == "auto" else f" in {preference.precision}"
    able = [one.name for one in list_backends() if preference.precision in ("auto", *one.precisions)]
    return (
        f"no backend on this machine runs {model.manifest.name}{kind}; {', '.join(able)} could: "
        "see `relume doctor` for what is missing"
    )


def _decide(
    model: Model, candidates: list[tuple[BackendInfo, str]], preference: BackendPreference, *, engines: Path | None
) -> tuple[BackendInfo, str, str]:
    default, reference = candidates[0]
    if len(candidates) == 1:
        return (
            default,
            reference,
            "asked for" if "auto" not in (preference.backend, preference.precision) else _only(preference),
        )
    speeds = _measured(model, candidates, engines)
    best = candidates[0]
    if (default.name, reference) in speeds:
        for backend, precision in candidates[1:]:
            ms = speeds.get((backend.name, precision))
            if ms is not None and ms * MIN_SPEEDUP < speeds[best[0].name, best[1]]:
                best = backend, precision
        return *best, _compare(speeds, best, reference=(default.name, reference))
    part = "" if preference == BackendPreference() else f"; {_only(preference)}"
    return default, reference, f"default (run `relume doctor` once to benchmark this machine){part}"


def is_measured(model: Model, engines: Path | None) -> bool:
    """Return whether a backend was measured for a model here, with the current files and libraries."""
    available = [backend for backend in list_backends() if backend.available]
    candidates = candidates_for(model, available)
    return len(candidates) < 2 or bool(_measured(model, candidates, engines))


def _measured(
    model: Model, candidates: list[tuple[BackendInfo, str]], engines: Path | None
) -> dict[tuple[str, str], float]:
    speeds = read_speeds(engines)
    if not speeds:
        return {}
    hardware = detect_hardware()
    backends = {backend.name: backend for backend, _ in candidates}
    pairs = {(backend.name, precision) for backend, precision in candidates}
    return {
        (speed.backend, speed.precision): speed.ms
        for speed in speeds
        if (speed.backend, speed.precision) in pairs
        and not speed.problem
        and is_current(speed, model, backends[speed.backend], hardware)
    }


def _compare(
    speeds: Mapping[tuple[str, str], float], best: tuple[BackendInfo, str], *, reference: tuple[str, str]
) -> str:
    """Return the speed of the choice beside that of the default, or of the next best where it is the default."""
    chosen = best[0].name, best[1]
    others = {pair: ms for pair, ms in speeds.items() if pair != chosen}
    text = f"measured here: {_ms(speeds[chosen])}"
    if not others:
        return text
    backend, precision = reference if reference in others else min(others, key=lambda pair: others[pair])
    return f"{text}, against {_ms(others[backend, precision])} of {backend} {precision}"


def _ms(ms: float) -> str:
    return f"{ms:.0f} ms" if ms >= 100 else f"{ms:.3g} ms"


def _only(preference: BackendPreference) -> str:
    named = [name for name in (preference.backend, preference.precision) if name != "auto"]
    return f"asked for {' '.join(named)}" if named else "the only backend that can run it here"


class StoredEngineSession(Closing):
    """A session on an engine of the store, which is not pruned before the session is closed."""

    def __init__(self, session: Session, engine: "StoredEngine") -> None:
        self._session, self._engine = session, engine
        self.backend, self.precision = session.backend, session.precision
        self.inputs, self.outputs = session.inputs, session.outputs
        self.device_tensors = get_device_tensors(session)

    def run(self, tensors: Mapping[str, Array], out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Run the network once; see `Session.run`."""
        return self._session.run(tensors, out)

    def close(self) -> None:
        """Close the session, then release the engine."""
        self.device_tensors = None
        self._session.close()
        self._engine.close()


def _find_engine(
    source: Path, shape: Mapping[str, int], engine_type: EngineType, engines: Path | None
) -> "StoredEngine | None":
    """Return the store's engine, or request it and return None; a store that cannot be used counts as empty."""
    if engines is None:
        return None
    from runtime.engine.store.key import request_engine
    from runtime.engine.store.store import EngineStore

    store = EngineStore(engines)
    try:
        request = request_engine(source, dimensions=shape, engine_type=engine_type)
        engine = store.find(request)
    except EngineStoreError as error:
        logger.warning("the engine store cannot be used: %s", error)
        return None
    if engine is None:
        store.request_build(request)
    return engine
