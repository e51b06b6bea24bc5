"""Builds the engines that are wanted while no job runs: one at a time, from a thread of the server.

A job that starts has the box for itself: the build is stopped, leaves nothing, and is begun again when the box is idle.
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

_LOOK_S: Final = 3.0
_MOST_DEATHS: Final = 3


class EngineKeeper(Closing):
    """Builds what is wanted, and keeps the store within its budget; `close` stops a running build."""

    def __init__(
        self,
        store: EngineStore,
        is_idle: Callable[[], bool],
        *,
        budget_bytes: int,
        look_s: float = _LOOK_S,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        """Make the thread.

        Args:
            store: The engines of the box.
            is_idle: Tells whether no job runs.
            budget_bytes: What engines may take.
            look_s: How often to look for wishes.
            on_ready: Called after an engine was built that can be used.
        """
        self._store, self._is_idle, self._budget, self._look_s = store, is_idle, budget_bytes, look_s
        self._on_ready, self._stopping = on_ready, threading.Event()
        self._deaths: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._run, name="relume-engines", daemon=True)

    def start(self) -> None:
        """Ask for what a new driver, library or device made outdated, and begin to build.

        A box with a GPU whose store is empty is asked for what usual sources will want: nothing else runs on it until
        there is an engine, and no job should have to be the first.
        """
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        was_idle, renewed = False, False
        while not self._stopping.wait(self._look_s):
            try:
                if not renewed:
                    for name in self._store.renew():
                        logger.info("engine %s is outdated; it will be built again", name)
                    self._want_usual()
                    renewed = True
                # Twice in a row, or a build would begin and be stopped between two jobs.
                idle = self._is_idle()
                if idle and was_idle:
                    self._build_next()
                was_idle = idle
            except EngineStoreError as error:
                logger.warning("%s", error)
            except Exception:
                logger.exception("engines cannot be built; trying again")
                self._stopping.wait(60 * self._look_s)

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
        for wish in self._store.build_requests():
            try:
                name = self._store.key(wish.request).name
            except EngineStoreError:
                continue  # Its library or its device is not there today; the list says so.
            if self._deaths[name] < _MOST_DEATHS:
                self._build(wish, name)
                return

    def _build(self, wish: BuildRequest, name: str) -> None:
        logger.info("engine %s is being built", name)
        try:
            result = build_in_subprocess(
                self._store,
                wish.request,
                again=wish.again,
                stop=lambda: self._stopping.is_set() or not self._is_idle(),
            )
        except CancelledError:
            logger.info("the build of engine %s makes room for a job", name)
        except EngineStoreError as error:
            self._deaths[name] += 1
            logger.warning("engine %s: %s", name, error)
        else:
            level = logging.INFO if result.outcome.usable else logging.WARNING
            logger.log(level, "engine %s: %s %s", name, result.outcome, result.reason)
            prune(self._store, self._budget)
            if result.outcome.usable:
                self._on_ready()
