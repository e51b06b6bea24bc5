"""The golden test: an engine against ONNX Runtime in FP32, on a stored clip, before it may be used and whenever asked.

The clip is short but goes the whole way of a job: motion, state from frame to frame, two tiles side by side.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from runtime.engine.flavour import Flavour
from runtime.engine.session import OpenSession, Session
from runtime.engine.store.entry import Proof
from runtime.engine.store.request import EngineRequest, find_file
from runtime.errors import EngineStoreError, RelumeError
from runtime.manifest import Model

LEAST_AGREEMENT_DB: Final = {"fp32": 50.0, "fp16": 50.0, "int8": 40.0}
"""Against FP32, of a peak of 1. INT8 is judged by quality; far below this it would be another picture all the same."""
MOST_LOSS_DB: Final = 0.15
"""How much farther from the truth than FP32 an engine may be: what INT8 is allowed on real clips."""


class UnsoundError(EngineStoreError):
    """The engine runs, but fails the golden test."""


class NotRunnableError(EngineStoreError):
    """The engine cannot be opened here, so nothing is known of it."""


def prove_engine(request: EngineRequest, engine: Path, *, threads: int) -> Proof:
    """Run the golden test.

    Args:
        request: What the engine was built of.
        engine: Its file.
        threads: Of the processor.

    Raises:
        NotRunnableError: The engine cannot be opened here.
        UnsoundError: It gives something that is not finite, another picture or sound than FP32, or a seam.
        ManifestError: The model has no FP32 file to compare with.
    """
    started = time.monotonic()
    model, entry = find_file(request.source)
    exact = model.file(role=entry.role, precision="fp32")
    try:
        session = open_engine(engine, flavour=request.flavour, precision=request.precision, threads=threads)
    except RelumeError as error:
        raise NotRunnableError(f"{engine.name} cannot be opened here: {error}") from error

    def open_exact(path: Path, *, dimensions: Mapping[str, int], precision: str) -> Session:
        from runtime.engine.onnxruntime_cpu import OnnxRuntimeCpuSession

        return OnnxRuntimeCpuSession(path, dimensions=dimensions, precision=precision, threads=threads)

    def open_tested(path: Path, *, dimensions: Mapping[str, int], precision: str) -> Session:
        # A model that works in parts is tested one part at a time.
        if path in (exact, request.source):
            return session
        return open_exact(path, dimensions=dimensions, precision=precision)

    with session:
        proof = _compare(model, request, open_tested, open_exact)
    _judge(request, proof)
    return proof.model_copy(update={"time_s": time.monotonic() - started})


def open_engine(path: Path, *, flavour: Flavour, precision: str, threads: int) -> Session:
    """Open a built engine.

    Raises:
        SessionError: It cannot be opened here.
    """
    if flavour is Flavour.OPENVINO:
        from runtime.engine.openvino import OpenVinoSession

        return OpenVinoSession(path, dimensions={}, precision=precision, threads=threads)
    from runtime.engine.tensorrt import TensorRtSession

    return TensorRtSession(path, flavour=flavour, precision=precision)


def _compare(model: Model, request: EngineRequest, tested: OpenSession, exact: OpenSession) -> Proof:
    if model.manifest.video is not None:
        from runtime.engine.store.proof_video import compare_video

        return compare_video(model, dict(request.dimensions), tested, exact)
    if model.manifest.audio is not None:
        from runtime.engine.store.proof_audio import compare_audio

        return compare_audio(model, tested, exact)
    raise EngineStoreError(
        f"model {model.manifest.name} is for neither video nor audio: there is no golden test for it"
    )


def _judge(request: EngineRequest, proof: Proof) -> None:
    least = LEAST_AGREEMENT_DB[request.precision]
    if not proof.agreement_db >= least:
        raise UnsoundError(
            f"it agrees with ONNX Runtime in FP32 to {proof.agreement_db:.1f} dB, expected {least:g} dB in "
            f"{request.precision}"
        )
    if proof.quality_loss_db is not None and not proof.quality_loss_db <= MOST_LOSS_DB:
        raise UnsoundError(
            f"it is {proof.quality_loss_db:.2f} dB farther from the truth than FP32, expected {MOST_LOSS_DB} dB at most"
        )
