"""Opens a model on the backend that was chosen for it: which file, and which engine of the store."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.closing import Closing
from runtime.engine.backends import Backend, choose_backend
from runtime.engine.flavour import Flavour
from runtime.engine.session import Array, OpenSession, Session
from runtime.errors import EngineStoreError, OpenError, SessionError
from runtime.manifest import Model

if TYPE_CHECKING:
    from runtime.engine.store.store import StoredEngine

logger = logging.getLogger(__name__)


class StoredSession(Closing):
    """A session on an engine of the store, which is not cleared away before the session is closed."""

    def __init__(self, session: Session, engine: "StoredEngine") -> None:
        self._session, self._engine = session, engine
        self.backend, self.precision = session.backend, session.precision
        self.inputs, self.outputs = session.inputs, session.outputs

    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Run the network once; see `Session.run`."""
        return self._session.run(tensors)

    def close(self) -> None:
        """Close the session, then let go of the engine."""
        self._session.close()
        self._engine.close()


def open_chosen(
    model: Model, backend: Backend, precision: str, *, threads: int, engines: Path | None = None
) -> OpenSession:
    """Give what opens a model's files on a backend in a precision.

    What is given back takes the path of one of the model's files and opens the file of the same role in the chosen
    precision in its place, so that the pipelines need not know of precisions. Where the backend runs engines, the
    store's is opened. If there is none yet it is asked for; OpenVINO compiles the file meanwhile, and for the others
    `OpenError` is raised, as where the backend cannot open the file.

    Args:
        model: Its manifest tells the roles.
        backend: One that can be used here.
        precision: One that the model offers for each role.
        threads: CPU threads that an engine may use.
        engines: The folder of the engine store; None where there is none.
    """
    roles = {model.folder / file.path: file.role for file in model.manifest.files}
    chosen, name = precision, model.manifest.name

    def open_session(path: Path, *, dimensions: Mapping[str, int], precision: str) -> Session:
        del precision  # of the file that is asked for, not of the one that is opened
        source = model.file(role=roles[path], precision=chosen, form=backend.int8_form)
        engine = None if backend.flavour is None else _find_engine(source, dimensions, backend.flavour, engines)
        try:
            if engine is not None or backend.flavour in (None, Flavour.OPENVINO):
                open_file = choose_backend(backend.name, threads=threads).open_session
                return _open(open_file, source, engine, dimensions=dimensions, precision=chosen)
        except OpenError:
            raise
        except SessionError as error:
            raise OpenError(str(error), model=name, backend=backend.name) from error
        sizes = "x".join(str(size) for size in dimensions.values())
        raise OpenError(
            f"the {backend.flavour} engine for {name} {chosen} at {sizes} is not built yet"
            + ("" if engines is None else "; it is asked for: see `relume engines list`"),
            model=name,
            backend=backend.name,
            waits=True,
        )

    return open_session


def _open(
    open_file: OpenSession,
    source: Path,
    engine: "StoredEngine | None",
    *,
    dimensions: Mapping[str, int],
    precision: str,
) -> Session:
    if engine is None:
        return open_file(source, dimensions=dimensions, precision=precision)
    try:
        return StoredSession(open_file(engine.path, dimensions=dimensions, precision=precision), engine)
    except BaseException:
        engine.close()
        raise


def _find_engine(
    source: Path, dimensions: Mapping[str, int], flavour: Flavour, engines: Path | None
) -> "StoredEngine | None":
    """Look for an engine in the store, and ask for it where it is missing; a store in disorder is one without it."""
    if engines is None:
        return None
    from runtime.engine.store.request import request_engine
    from runtime.engine.store.store import EngineStore

    store = EngineStore(engines)
    try:
        request = request_engine(source, dimensions=dimensions, flavour=flavour)
        engine = store.find(request)
    except EngineStoreError as error:
        logger.warning("the engine store cannot be used: %s", error)
        return None
    if engine is None:
        store.want(request)
    return engine
