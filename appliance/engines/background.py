"""Builds requested engines while no job runs: one at a time, from a thread of the server.

A job has priority: when one starts, the build is cancelled without leftovers, and restarted when no job runs.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable
from typing import Final

from runtime.closing import Closing
from runtime.common_shapes import default_engine_type, preset_models, requests_for
from runtime.engine.backends import quant_scheme
from runtime.engine.choose import offered_precisions
from runtime.engine.device import EngineType
from runtime.engine.store.builder import build_in_subprocess
from runtime.engine.store.inventory import list_engines
from runtime.engine.store.layout import BuildRequest
from runtime.engine.store.pruning import prune
from runtime.engine.store.store import EngineStore
from runtime.errors import CancelledError, EngineStoreError

logger = logging.getLogger(__name__)

_POLL_S: Final = 3.0
_MAX_CRASHES: Final = 3


class EngineKeeper(Closing):
    """Builds requested engines, and keeps the store within its budget; `close` cancels a running build."""

    def __init__(
        self,
        store: EngineStore,
        is_idle: Callable[[], bool],
        *,
        budget_bytes: int,
        poll_s: float = _POLL_S,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        """Create the thread.

        Args:
            store: The engine store.
            is_idle: Returns True while no job runs.
            budget_bytes: Disk space for engines.
            poll_s: Interval of checking for requests.
            on_ready: Called when a usable engine has been built.
        """
        self._store, self._is_idle, self._budget, self._poll_s = store, is_idle, budget_bytes, poll_s
        self._on_ready, self._stopping = on_ready, threading.Event()
        self._crashes: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._run, name="relume-engines", daemon=True)

    def start(self) -> None:
        """Request engines that a new driver, library or device has outdated, and start building.

        On a machine with a GPU and an empty store, engines for common sources are requested: the GPU is not used until
        there is an engine, and the first job should not have to wait for one.
        """
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        was_idle, renewed = False, False
        while not self._stopping.wait(self._poll_s):
            try:
                if not renewed:
                    for name in self._store.renew():
                        logger.info("engine %s is outdated and will be rebuilt", name)
                    self._want_usual()
                    renewed = True
                # Twice in a row, or a build would be started and cancelled between two jobs.
                idle = self._is_idle()
                if idle and was_idle:
                    self._build_next()
                was_idle = idle
            except EngineStoreError as error:
                logger.warning("%s", error)
            except Exception:
                logger.exception("building engines failed; retrying")
                self._stopping.wait(60 * self._poll_s)

    def _want_usual(self) -> None:
        engine_type = default_engine_type()
        if engine_type is EngineType.OPENVINO or self._store.build_requests() or list_engines(self._store):
            return
        for model in preset_models():
            for precision in ("fp16", "fp32"):
                if precision in offered_precisions(model, quant_scheme(engine_type)):
                    for request in requests_for(model, engine_type, precision=precision):
                        self._store.request_build(request)
                    break

    def _build_next(self) -> None:
        for wanted in self._store.build_requests():
            try:
                name = self._store.key(wanted.request).name
            except EngineStoreError:
                continue  # Its library or device is missing now, which the list shows.
            if self._crashes[name] < _MAX_CRASHES:
                self._build(wanted, name)
                return

    def _build(self, wanted: BuildRequest, name: str) -> None:
        logger.info("building engine %s", name)
        try:
            result = build_in_subprocess(
                self._store,
                wanted.request,
                again=wanted.again,
                stop=lambda: self._stopping.is_set() or not self._is_idle(),
            )
        except CancelledError:
            logger.info("the build of engine %s was cancelled for a job", name)
        except EngineStoreError as error:
            self._crashes[name] += 1
            logger.warning("engine %s: %s", name, error)
        else:
            level = logging.INFO if result.outcome.usable else logging.WARNING
            logger.log(level, "engine %s: %s %s", name, result.outcome, result.reason)
            prune(self._store, self._budget)
            if result.outcome.usable:
                self._on_ready()
