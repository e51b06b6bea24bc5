"""The diagnosis of a machine: hardware, libraries, backends, codecs, models, speed.

Nothing here raises for something that is missing: `problems` or the entry itself describes it.
"""

import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal

from runtime.engine.backends import TWO_ORTS, is_installed, list_backends
from runtime.engine.benchmark import BUDGET_S, measure_model
from runtime.engine.choose import BackendPreference, choose_engine
from runtime.engine.speeds import Speed, write_speeds
from runtime.errors import EngineError, ManifestError, OutputError
from runtime.hardware import Hardware, detect_hardware
from runtime.manifest import Model, list_models
from runtime.presets import PRESETS
from runtime.version import relume_version


@dataclass(frozen=True, slots=True)
class Library:
    """A library, its installed version (None if it is missing), and how to install it."""

    name: str
    version: str | None
    needed_for: str
    remedy: str
    optional: bool


@dataclass(frozen=True, slots=True)
class BackendState:
    """A backend: whether it is available, whether jobs use it by default, and the reason."""

    name: str
    available: bool
    used: bool
    reason: str


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """The backend and precision that jobs use for a model by default, and the reason."""

    model: str
    backend: str
    precision: str
    reason: str


@dataclass(frozen=True, slots=True)
class CodecSupport:
    """The decoders and encoders of PyAV's FFmpeg for a codec, by their FFmpeg names."""

    name: str
    decoders: tuple[str, ...]
    encoders: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelState:
    """A model; `problem` is empty if its files match their checksums."""

    name: str
    title: str
    task: str
    licence: str
    problem: str
    quality: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The result of `relume doctor`; a machine without `problems` can run jobs."""

    relume: str
    python: str
    hardware: Hardware
    libraries: tuple[Library, ...]
    backends: tuple[BackendState, ...]
    codecs: tuple[CodecSupport, ...]
    models: tuple[ModelState, ...]
    speeds: tuple[Speed, ...]
    choices: tuple[ModelChoice, ...]
    problems: tuple[str, ...]


# Distribution, module, purpose, extra that installs it (empty: installed with Relume).
_LIBRARIES: Final[tuple[tuple[str, str, str, str], ...]] = (
    ("av", "av", "reading and writing media", ""),
    ("numpy", "numpy", "arrays", ""),
    ("numba", "numba", "kernels on the CPU", ""),
    ("onnxruntime", "onnxruntime", "models on the CPU", "cpu"),
    ("openvino", "openvino", "models on x86 processors, faster", "cpu"),
    ("soxr", "soxr", "audio resampling", ""),
    ("pillow", "PIL", "before/after images", ""),
    ("cupy-cuda13x", "cupy", "kernels on NVIDIA GPUs", "cuda"),
    ("onnxruntime-gpu", "onnxruntime", "models on NVIDIA GPUs", "cuda"),
    ("tensorrt-cu13", "tensorrt", "the fastest engines on NVIDIA GPUs", "tensorrt"),
    ("tensorrt-rtx-cu13", "tensorrt_rtx", "the fastest engines on RTX cards", "rtx"),
    ("pycuda", "pycuda", "shared memory on Jetson", "jetson"),
)

# Codec, its decoder in FFmpeg, the encoders that could write it, best first.
_CODECS: Final = (
    ("h264", "h264", ("libx264", "h264_nvenc")),
    ("hevc", "hevc", ("libx265", "hevc_nvenc")),
    ("av1", "libdav1d", ("libsvtav1", "av1_nvenc")),
    ("vp9", "vp9", ()),
    ("prores", "prores", ("prores_ks",)),
    ("mpeg2", "mpeg2video", ()),
    ("mjpeg", "mjpeg", ()),
    ("ffv1", "ffv1", ("ffv1",)),
    ("aac", "aac", ("aac",)),
    ("opus", "opus", ("libopus",)),
    ("flac", "flac", ("flac",)),
)


def diagnose(
    *, trials: bool = True, engines: Path | None = None, own: Path | None = None, budget_s: float = BUDGET_S
) -> Diagnosis:
    """Return the diagnosis of this machine.

    Args:
        trials: Also benchmark every model on every backend, and store the speeds, by which jobs choose.
        engines: The folder of this machine's engines and measurements; None for neither.
        own: A folder of the owner's own models, to be checked too.
        budget_s: Seconds for each backend and precision of a model.
    """
    hardware = detect_hardware()
    # OpenVINO exists only for x86; elsewhere it is not listed as missing.
    wanted = [entry for entry in _LIBRARIES if entry[0] != "openvino" or hardware.machine == "x86_64"]
    libraries = tuple(_find_library(*entry) for entry in wanted)
    codecs = _find_codecs()
    problems = [
        f"{entry.name} is missing: {entry.remedy}"
        for entry in libraries
        if entry.version is None and not entry.optional
    ]
    if find_spec("onnxruntime") is None:
        problems.append(
            "ONNX Runtime is missing, so no model can run: pip install 'relume[cpu]', or 'relume[cuda]' for a GPU"
        )
    if is_installed("onnxruntime") and is_installed("onnxruntime-gpu"):
        problems.append(TWO_ORTS)
    if not any("libx264" in codec.encoders for codec in codecs):
        problems.append("H.264 cannot be encoded; reinstall PyAV from its wheel: pip install av")
    models, states = _read_zoo(problems, own)
    speeds = _measure(models, engines, problems, budget_s) if trials else ()
    choices = _choose(models, engines, problems)
    return Diagnosis(
        relume=relume_version(),
        python=platform.python_version(),
        hardware=hardware,
        libraries=libraries,
        backends=_find_backends({choice.backend for choice in choices}),
        codecs=codecs,
        models=states,
        speeds=speeds,
        choices=choices,
        problems=tuple(problems),
    )


def _find_library(distribution: str, module: str, needed_for: str, extra: str) -> Library:
    try:
        found = version(distribution) if find_spec(module) else None
    except PackageNotFoundError:
        found = None
    target = f"'relume[{extra}]'" if extra else f"'{distribution}'"
    return Library(distribution, found, needed_for, f"pip install {target}", bool(extra))


def _find_backends(used: set[str]) -> tuple[BackendState, ...]:
    return tuple(BackendState(one.name, one.available, one.name in used, one.reason) for one in list_backends())


def _choose(models: list[Model], engines: Path | None, problems: list[str]) -> tuple[ModelChoice, ...]:
    chosen = []
    for model in models:
        try:
            choice = choose_engine(model, BackendPreference(), threads=len(os.sched_getaffinity(0)), engines=engines)
        except EngineError as error:
            problems.append(str(error))
            continue
        chosen.append(ModelChoice(model.manifest.name, choice.backend.name, choice.backend.precision, choice.reason))
    return tuple(chosen)


def _find_codecs() -> tuple[CodecSupport, ...]:
    if find_spec("av") is None:
        return ()
    import av
    from av.codec.codec import UnknownCodecError

    def has(name: str, mode: Literal["r", "w"]) -> bool:
        try:
            av.Codec(name, mode)
        except UnknownCodecError:
            return False
        return True

    return tuple(
        CodecSupport(
            name,
            decoders=(decoder,) if has(decoder, "r") else (),
            encoders=tuple(encoder for encoder in encoders if has(encoder, "w")),
        )
        for name, decoder, encoders in _CODECS
    )


def _read_zoo(problems: list[str], own: Path | None) -> tuple[list[Model], tuple[ModelState, ...]]:
    try:
        shipped = list_models()
        models = shipped + (list_models(own) if own is not None else [])
    except ManifestError as error:
        problems.append(str(error))
        return [], ()
    there = {model.manifest.name for model in shipped}
    for preset in PRESETS.values():
        missing = sorted({preset.audio_model, *preset.models.values()} - there)
        if missing:
            problems.append(f"preset {preset.name} lacks {', '.join(missing)}: reinstall Relume")
    for model in shipped:
        if not model.manifest.training.iterations:
            problems.append(f"model {model.manifest.name} is untrained: reinstall Relume")
    states = tuple(_check_model(model) for model in models)
    problems += [state.problem for state in states if state.problem]
    whole = [model for model, state in zip(models, states, strict=True) if not state.problem]
    return whole, states


def _check_model(model: Model) -> ModelState:
    manifest = model.manifest
    problem = ""
    try:
        for entry in manifest.files:
            model.file(role=entry.role, precision=entry.precision, form=entry.form)
    except ManifestError as error:
        problem = str(error)
    quality = tuple(
        f"{entry.measure} {entry.before:g} -> {entry.after:g} on {entry.data}" for entry in manifest.quality
    )
    return ModelState(manifest.name, manifest.title, manifest.task, manifest.licence, problem, quality)


def _measure(models: list[Model], engines: Path | None, problems: list[str], budget_s: float) -> tuple[Speed, ...]:
    """Measure every model and store the speeds; a model that runs on no backend is a problem."""
    speeds: list[Speed] = []
    for model in models:
        found = measure_model(model, engines=engines, budget_s=budget_s)
        speeds += found
        if all(speed.problem for speed in found):
            reasons = "; ".join(dict.fromkeys(speed.problem for speed in found)) or "no backend can be used"
            problems.append(f"model {model.manifest.name} does not run: {reasons}")
    if engines is not None and speeds:
        try:
            write_speeds(engines, tuple(speeds))
        except OutputError as error:
            problems.append(f"cannot store the benchmarks, so jobs use the default backend: {error}")
    return tuple(speeds)
