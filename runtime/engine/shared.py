"""One session for several users that take turns, as the tracks of a film do: each holds its own states."""

import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from runtime.engine.session import Array, OpenSession, Session


class SharedSessions:
    """An `OpenSession` that opens each network once; it is closed when the last of its users closes it."""

    def __init__(self, open_session: OpenSession) -> None:
        self._open_session = open_session
        self._lock = threading.Lock()
        self._shared: dict[tuple[object, ...], _Shared] = {}

    def __call__(self, path: Path, *, dimensions: Mapping[str, int], precision: str) -> Session:
        """Open a session, or take a share in the one that is open."""
        key = (path, tuple(sorted(dimensions.items())), precision)
        with self._lock:
            shared = self._shared.get(key)
            if shared is None or not shared.users:
                shared = self._shared[key] = _Shared(
                    self._open_session(path, dimensions=dimensions, precision=precision)
                )
            shared.users += 1
        return _Share(shared)


class _Shared:
    """A session, who uses it, and whose turn it is."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.users = 0
        self.lock = threading.Lock()


class _Share:
    """One user's part of a session."""

    def __init__(self, shared: _Shared) -> None:
        self._shared = shared
        self._is_open = True
        session = shared.session
        self.backend, self.precision = session.backend, session.precision
        self.inputs, self.outputs = session.inputs, session.outputs

    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Run the network once, when it is this user's turn."""
        with self._shared.lock:
            return self._shared.session.run(tensors)

    def close(self) -> None:
        """Give up the share; the last one closes the session."""
        with self._shared.lock:
            if not self._is_open:
                return
            self._is_open = False
            self._shared.users -= 1
            if not self._shared.users:
                self._shared.session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
