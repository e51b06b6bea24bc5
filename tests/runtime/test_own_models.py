"""A user's own model enhances a whole file: every frame at its time, the licence shown, wrong options refused."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from runtime.enhance import enhance
from runtime.errors import ManifestError, OptionError
from runtime.manifest import Model
from runtime.options import AudioMode, Codec, EnhanceOptions
from tests import media

TIMES = [0, 40, 73, 140, 141, 300, 333, 700, 1000, 1001, 1100]
LICENCE = "CC-BY-NC-4.0: non-commercial use only"


def write_clip(path: Path) -> Path:
    """Write a moving image of 72x48, losslessly, at uneven times in milliseconds."""
    scene = media.blocks(np.random.default_rng(3), 6, 12, low=20, high=230)
    frames = media.pan(scene, len(TIMES), 72)
    return media.write_clip(path, frames, codec="ffv1", pixel_format="yuv444p", times_ms=TIMES, colour=(6, 1))


def read(path: Path) -> tuple[list[Any], list[Any]]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        return [frame.pts * stream.time_base for frame in frames], [
            frame.to_ndarray(format="rgb24") for frame in frames
        ]


def options_for(model: Model, **fields: Any) -> EnhanceOptions:
    return EnhanceOptions(
        audio=AudioMode.OFF, codec=Codec.FFV1, model=model.manifest.name, zoo=model.folder.parent, **fields
    )


@pytest.mark.parametrize("kind", ["image", "window", "chain"])
def test_every_frame_comes_out_at_its_time(
    tmp_path: Path, clip_model: Callable[..., Model], chain_model: Callable[..., Model], kind: str
) -> None:
    source = write_clip(tmp_path / "in.mkv")
    scale = 2 if kind == "window" else 1
    if kind == "chain":
        model = chain_model(passes=2)
    else:
        model = clip_model(scale=scale, **({"frames": 1, "overlap": 0} if kind == "image" else {}))

    report = enhance(source, tmp_path / "out.mkv", options_for(model))

    found, frames = read(tmp_path / "out.mkv")
    assert found == [Fraction(time, 1000) for time in TIMES]
    assert {frame.shape for frame in frames} == {(48 * scale, 72 * scale, 3)}
    assert report.picture is not None
    assert report.picture.pts_equal
    assert report.picture.scale == scale
    assert report.picture.frames_out == len(TIMES)
    name = kind if kind == "chain" else "clip"
    assert report.warnings == (f"model {name} is your own model; its licence is {LICENCE}",)
    (engine,) = report.engines
    assert engine.licence == LICENCE
    assert engine.sha256 in {file.sha256 for file in model.manifest.files}


def test_without_strength_the_video_is_the_source(tmp_path: Path, clip_model: Callable[..., Model]) -> None:
    source = write_clip(tmp_path / "in.mkv")

    enhance(source, tmp_path / "out.mkv", options_for(clip_model(spread=0.4), strength=0.0))

    before, after = (np.array(read(path)[1], np.float32) for path in (source, tmp_path / "out.mkv"))
    assert np.abs(before - after).mean() < 0.5
    assert np.abs(before - after).max() <= 4


def test_a_model_that_ships_can_be_named_and_no_licence_is_reported(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv")
    options = EnhanceOptions(audio=AudioMode.OFF, model="light-x2")

    report = enhance(source, tmp_path / "out.mp4", options)

    assert report.warnings == ()
    assert report.picture is not None
    assert report.picture.scale_reason == "the scale of model light-x2"
    assert read(tmp_path / "out.mp4")[1][0].shape == (96, 144, 3)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model": "vast"}, ManifestError, r"no model named vast; .*zoo has: clip"),
        ({"model": None}, OptionError, r"--zoo .*zoo selects a folder of models but no model; select one with --model"),
        ({"scale": 4}, OptionError, "model clip is for scale 1, got --scale 4; remove it"),
        ({"preset": "sound-only", "codec": None}, OptionError, "so --model cannot be used"),
        ({"model": "speech-mask", "zoo": None}, OptionError, "speech-mask is for speech-denoise, not for video"),
    ],
)
def test_what_does_not_go_together_is_refused(
    tmp_path: Path, clip_model: Callable[..., Model], changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    source, model = write_clip(tmp_path / "in.mkv"), clip_model()

    with pytest.raises(error, match=message):
        enhance(source, tmp_path / "out.mkv", replace(options_for(model), **changes))

    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mkv", "zoo"]


def test_a_file_that_was_altered_is_refused(tmp_path: Path, clip_model: Callable[..., Model]) -> None:
    source, model = write_clip(tmp_path / "in.mkv"), clip_model()
    with open(model.folder / "window.onnx", "ab") as file:
        file.write(b"x")

    with pytest.raises(ManifestError, match="does not match its manifest"):
        enhance(source, tmp_path / "out.mkv", options_for(model))

    assert not (tmp_path / "out.mkv").exists()
