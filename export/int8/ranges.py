"""Activation ranges: the lowest and highest value of each tensor on real inputs, stored in a small JSON file.

The calibrators are those of `onnxruntime.quantization`. One file of ranges serves both INT8 schemes, and the digest
that is part of an engine's key.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.int8.layers import QUANTISED
from runtime.engine.onnxruntime import load_onnxruntime

Tensors = Mapping[str, NDArray[np.float32]]
_CHUNK = 4
"""Samples whose activations the histogram calibrators hold at once."""
_BINS = 1024
"""Bins of the entropy calibrator; its default of 128 is also the number it keeps, so it would never clip."""


class Method(StrEnum):
    """How a range is derived from the values."""

    MINMAX = "minmax"
    PERCENTILE = "percentile"
    ENTROPY = "entropy"


class CalibrationError(RuntimeError):
    """Ranges cannot be measured, or belong to another file."""


@dataclass(frozen=True, slots=True)
class Ranges:
    """The lowest and highest value of each tensor that a quantised layer reads.

    source: SHA-256 of the float32 file.
    clips: Names of the inputs.
    """

    source: str
    method: Method
    samples: int
    clips: tuple[str, ...]
    values: Mapping[str, tuple[float, float]]

    @property
    def digest(self) -> str:
        """The SHA-256 of the file that `save` writes."""
        return hashlib.sha256(self._text().encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Write the ranges as JSON."""
        path.write_bytes(self._text().encode())

    def _text(self) -> str:
        kept = {
            "source": self.source,
            "method": self.method.value,
            "samples": self.samples,
            "clips": list(self.clips),
            "ranges": {name: [float(low), float(high)] for name, (low, high) in sorted(self.values.items())},
        }
        return json.dumps(kept, indent=1) + "\n"


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_ranges(path: Path) -> Ranges:
    """Read a file written by `Ranges.save`.

    Raises:
        CalibrationError: It cannot be read, or is not a ranges file.
    """
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        values = {name: (float(low), float(high)) for name, (low, high) in kept["ranges"].items()}
        return Ranges(kept["source"], Method(kept["method"]), kept["samples"], tuple(kept["clips"]), values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CalibrationError(
            f"{path} has no activation ranges ({error}); create it with relume-build calibrate"
        ) from error


def measure_ranges(
    source: Path, samples: Iterable[Tensors], *, method: Method = Method.MINMAX, clips: tuple[str, ...] = ()
) -> Ranges:
    """Run a float32 file over samples and record the range of each input and output of layers with weights.

    Args:
        source: The file; with named dimensions samples may differ in size.
        samples: Inputs by name, read once, a few at a time.
        method: MinMax uses the extremes; percentile (99.999) and entropy clip rare values.
        clips: Names of the inputs, stored with the ranges.

    Raises:
        CalibrationError: There are no samples, or a value is not finite.
    """
    load_onnxruntime()
    from onnxruntime.quantization import CalibrationMethod  # noqa: TID251
    from onnxruntime.quantization.calibrate import create_calibrator  # noqa: TID251

    methods = {
        Method.MINMAX: CalibrationMethod.MinMax,
        Method.PERCENTILE: CalibrationMethod.Percentile,
        Method.ENTROPY: CalibrationMethod.Entropy,
    }
    counted = _Counted(samples)
    with tempfile.TemporaryDirectory() as folder:
        calibrator = create_calibrator(
            source,
            sorted(QUANTISED),
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=methods[method],
            extra_options={"symmetric": False} | ({"num_bins": _BINS} if method is Method.ENTROPY else {}),
        )
        while chunk := list(islice(counted, _CHUNK)):
            with redirect_stdout(None):  # the histogram calibrators print
                calibrator.collect_data(_Reader(chunk))
        if not counted.count:
            raise CalibrationError("there are no samples to calibrate with; choose clips with frames")
        with redirect_stdout(None):
            found = calibrator.compute_data()
    values = {name: _bounds(name, data) for name, data in found.data.items()}
    return Ranges(file_digest(source), method, counted.count, clips, values)


def _bounds(name: str, data: Any) -> tuple[float, float]:
    low, high = (float(np.asarray(value).reshape(-1)[0]) for value in data.range_value)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise CalibrationError(f"tensor {name} ranges from {low} to {high}, expected finite values; check the samples")
    return min(low, 0.0), max(high, 0.0)  # zero must be exact: it is what a convolution pads with


class _Counted:
    """Counts the samples that were read."""

    def __init__(self, samples: Iterable[Tensors]) -> None:
        self._samples = iter(samples)
        self.count = 0

    def __iter__(self) -> Iterator[Tensors]:
        return self

    def __next__(self) -> Tensors:
        sample = next(self._samples)
        self.count += 1
        return sample


class _Reader:
    """The interface that the calibrators read from."""

    def __init__(self, samples: list[Tensors]) -> None:
        self._samples = iter(samples)

    def get_next(self) -> Tensors | None:
        return next(self._samples, None)
