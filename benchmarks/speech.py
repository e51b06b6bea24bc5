"""Measure the shipped speech model on held-out mixtures: `python -m benchmarks.speech --media FOLDER [--write]`.

Everything goes through the shipped pipeline. The mixtures are those that training held out: speakers and noises not
used in training. `--write` stores the means in the model's manifest.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calibration.recording import enhance_speech
from runtime.audio.speech_enhancer import SpeechEnhancer
from runtime.engine.backends import find_backend
from runtime.engine.choose import ModelBackend
from runtime.manifest import Model, Quality, load_model, zoo_folder
from training.loop import load_recipe
from training.speech import SpeechSettings
from training.speech_data import load_corpora
from training.speech_measures import Mixture, held_out_mixtures, measure_one

# Every speech recipe holds out the same speakers and noises.
RECIPE = Path(__file__).parents[1] / "training" / "recipes" / "speech_demucs.toml"
SNRS_DB = (0.0, 5.0, 10.0, 15.0)
PER_NOISE = 12
SECONDS = 6.0
MEASURES = {"pesq": "wide-band PESQ", "stoi": "STOI", "si_sdr": "SI-SDR (dB)"}


@dataclass(frozen=True, slots=True)
class Row:
    """One mixture, before and after."""

    mixture: Mixture
    before: dict[str, float]
    after: dict[str, float]


def measure_rows(model: Model, mixtures: list[Mixture], *, strength: float) -> list[Row]:
    """Measure every mixture before and after, on one thread of the CPU."""
    backend = ModelBackend(find_backend("cpu"))
    return [
        Row(
            mixture,
            measure_one(mixture.clean, mixture.noisy),
            measure_one(
                mixture.clean,
                enhance_speech(model, mixture.noisy, backend, strength=strength),
            ),
        )
        for mixture in mixtures
    ]


def real_time_factor(model: Model, *, seconds: float = 30.0) -> float:
    """Return the seconds of processing per second of 48 kHz stereo, on one thread."""
    rate = 48_000
    noise = np.random.default_rng(3).standard_normal((2, int(seconds * rate)), np.float32) * 0.05
    backend = ModelBackend(find_backend("cpu"))
    with SpeechEnhancer(model, backend, channels=2, layout="stereo", sample_rate=rate) as enhancer:
        enhancer.push(noisy_second := noise[:, :rate])
        started = time.perf_counter()
        for start in range(rate, noise.shape[1], noisy_second.shape[1] // 10):
            enhancer.push(noise[:, start : start + rate // 10])
        return (time.perf_counter() - started) / (seconds - 1)


def mean(rows: list[Row], measure: str) -> tuple[float, float]:
    """Return the means of one measure before and after."""
    before = float(np.mean([row.before[measure] for row in rows]))
    return before, float(np.mean([row.after[measure] for row in rows]))


def print_table(rows: list[Row]) -> None:
    """Print the means by SNR, by noise and over all."""
    groups = {f"{snr_db:g} dB": [r for r in rows if r.mixture.snr_db == snr_db] for snr_db in SNRS_DB}
    for name in sorted({row.mixture.noise for row in rows}):
        groups[name] = [row for row in rows if row.mixture.noise == name]
    groups["all"] = rows
    print(f"{'':32}{'n':>4}" + "".join(f"{title:>22}" for title in MEASURES.values()))
    for name, group in groups.items():
        means = (mean(group, measure) for measure in MEASURES)
        cells = "".join(f"{f'{before:.3f} -> {after:.3f}':>22}" for before, after in means)
        print(f"{name:32}{len(group):>4}{cells}")


def write_quality(model: Model, rows: list[Row]) -> None:
    """Write the means into the model's manifest."""
    data = f"{len(rows)} mixtures of {SECONDS:g} s, 0 to 15 dB, held-out LibriSpeech speakers, held-out noises"
    quality = []
    for measure, title in MEASURES.items():
        before, after = mean(rows, measure)
        quality.append(
            Quality(
                measure=title,
                data=data,
                before=round(before, 4),
                after=round(after, 4),
                command=f"python -m benchmarks.speech --media MEDIA --model zoo/{model.folder.name} --write",
            )
        )
    manifest = model.manifest.model_copy(update={"quality": tuple(quality)})
    text = manifest.model_dump_json(indent=2, exclude_none=True) + "\n"
    (model.folder / "manifest.json").write_text(text, encoding="utf-8")


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--media", type=Path, required=True, help="folder with speech/ and noise/")
    parser.add_argument("--model", type=Path, default=zoo_folder() / "speech-mask")
    parser.add_argument("--strength", type=float, default=1.0)
    parser.add_argument("--write", action="store_true", help="write the means into the manifest")
    arguments = parser.parse_args()
    if arguments.write and arguments.strength != 1:
        parser.error("--write measures at full strength")
    model = load_model(arguments.model)
    settings = SpeechSettings.model_validate(load_recipe(RECIPE).task)
    _, held_out = load_corpora(
        arguments.media,
        held_out_noise=settings.held_out_noise,
        held_out_speakers=settings.held_out_speakers,
    )
    mixtures = held_out_mixtures(held_out, seconds=SECONDS, snrs_db=SNRS_DB, per_noise=PER_NOISE)
    rows = measure_rows(model, mixtures, strength=arguments.strength)
    print_table(rows)
    print(f"real-time factor, 48 kHz stereo, one thread: {real_time_factor(model):.3f}")
    if arguments.write:
        write_quality(model, rows)


if __name__ == "__main__":
    main()
