"""What this box has and what Relume makes of it: hardware, libraries, codecs, models, speed.

Nothing here raises for something that is missing: it is said in `problems` or beside the entry.
"""

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Final, Literal

from runtime.engine.backends import choose_backend, list_backends
from runtime.errors import EngineError, ManifestError
from runtime.hardware import Hardware, look_at_hardware
from runtime.manifest import Model, list_models
from runtime.presets import PRESETS
from runtime.trial import Trial, try_model
from runtime.version import relume_version


@dataclass(frozen=True, slots=True)
class Library:
    """A library, the version that is installed (None: missing), and how to get it."""

    name: str
    version: str | None
    needed_for: str
    remedy: str
    optional: bool


@dataclass(frozen=True, slots=True)
class BackendState:
    """Something that can run models, whether it is the one that will, and why."""

    name: str
    available: bool
    used: bool
    reason: str


@dataclass(frozen=True, slots=True)
class CodecSupport:
    """What PyAV's FFmpeg can do with a codec: decoders and encoders by their FFmpeg names."""

    name: str
    decoders: tuple[str, ...]
    encoders: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelState:
    """A shipped model; `problem` is empty when its files match their checksums."""

    name: str
    title: str
    task: str
    licence: str
    problem: str
    quality: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Everything that `relume doctor` knows; with no `problems` the box can work."""

    relume: str
    python: str
    hardware: Hardware
    libraries: tuple[Library, ...]
    backends: tuple[BackendState, ...]
    codecs: tuple[CodecSupport, ...]
    models: tuple[ModelState, ...]
    trials: tuple[Trial, ...]
    problems: tuple[str, ...]


# Distribution, module, what for, extra that installs it (empty: installed with Relume).
_LIBRARIES: Final = (
    ("av", "av", "reading and writing media", ""),
    ("numpy", "numpy", "arrays", ""),
    ("numba", "numba", "kernels on the CPU", ""),
    ("onnxruntime", "onnxruntime", "models on the CPU", ""),
    ("soxr", "soxr", "resampling of sound", ""),
    ("pillow", "PIL", "before/after pictures", ""),
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


def diagnose(*, trials: bool = True) -> Diagnosis:
    """Look at this box; with `trials`, run every video model for about a second too."""
    hardware = look_at_hardware()
    libraries = tuple(_find_library(*entry) for entry in _LIBRARIES)
    codecs = _find_codecs()
    problems = [
        f"{entry.name} is missing: {entry.remedy}"
        for entry in libraries
        if entry.version is None and not entry.optional
    ]
    backends = _find_backends(problems)
    if not any("libx264" in codec.encoders for codec in codecs):
        problems.append("H.264 cannot be written: reinstall PyAV from its wheel: pip install av")
    models, states = _read_zoo(problems)
    return Diagnosis(
        relume=relume_version(),
        python=platform.python_version(),
        hardware=hardware,
        libraries=libraries,
        backends=backends,
        codecs=codecs,
        models=states,
        trials=_run_trials(models, hardware.cores, problems) if trials else (),
        problems=tuple(problems),
    )


def _find_library(distribution: str, module: str, needed_for: str, extra: str) -> Library:
    try:
        found = version(distribution) if find_spec(module) else None
    except PackageNotFoundError:
        found = None
    target = f"'relume[{extra}]'" if extra else f"'{distribution}'"
    return Library(distribution, found, needed_for, f"pip install {target}", bool(extra))


def _find_backends(problems: list[str]) -> tuple[BackendState, ...]:
    chosen = None
    try:
        chosen = choose_backend("auto", threads=1).name
    except EngineError as error:
        problems.append(str(error))
    return tuple(
        BackendState(entry.name, entry.available, entry.name == chosen, entry.reason) for entry in list_backends()
    )


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


def _read_zoo(problems: list[str]) -> tuple[list[Model], tuple[ModelState, ...]]:
    try:
        models = list_models()
    except ManifestError as error:
        problems.append(str(error))
        return [], ()
    there = {model.manifest.name for model in models}
    for preset in PRESETS.values():
        missing = sorted({preset.audio_model, *preset.models.values()} - there)
        if missing:
            problems.append(f"preset {preset.name} lacks {', '.join(missing)}: reinstall Relume")
    states = tuple(_check_model(model) for model in models)
    problems += [state.problem for state in states if state.problem]
    whole = [model for model, state in zip(models, states, strict=True) if not state.problem]
    return whole, states


def _check_model(model: Model) -> ModelState:
    manifest = model.manifest
    problem = "" if manifest.training.iterations else f"model {manifest.name} is untrained: reinstall Relume"
    try:
        for entry in manifest.files:
            model.file(role=entry.role, precision=entry.precision)
    except ManifestError as error:
        problem = str(error)
    quality = tuple(
        f"{entry.measure} {entry.before:g} -> {entry.after:g} on {entry.data}" for entry in manifest.quality
    )
    return ModelState(manifest.name, manifest.title, manifest.task, manifest.licence, problem, quality)


def _run_trials(models: list[Model], threads: int, problems: list[str]) -> tuple[Trial, ...]:
    trials = tuple(try_model(model, threads=threads) for model in models if model.manifest.video)
    problems += [f"model {trial.model} does not run: {trial.problem}" for trial in trials if trial.problem]
    return trials
