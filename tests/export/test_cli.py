"""`relume-build` exports, lists its output, and explains what it cannot do."""

import numpy as np
import pytest
from typer.testing import CliRunner

from export.cli import app
from export.comparison_inputs import real_tiles
from tests.media import write_clip

pytestmark = pytest.mark.filterwarnings("ignore")  # the exporter's deprecation warnings


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clip.mkv"
    generator = np.random.default_rng(0)
    frames = [generator.integers(0, 255, (24, 32, 3), np.uint8) for _ in range(3)]
    return write_clip(path, frames, codec="ffv1", pixel_format="bgr0")


def test_export_makes_every_precision_and_a_table(clip, tmp_path) -> None:
    output = tmp_path / "out"
    arguments = [
        "sr-unet-x2",
        "--tile",
        "16x16",
        "--tiles",
        "2",
        "--precision",
        "fp32,fp16,int8",
        "--clip",
        str(clip),
        "--output",
        str(output),
    ]

    result = CliRunner(env={"COLUMNS": "160"}).invoke(app, ["export", *arguments])

    assert result.exit_code == 0, result.output
    assert {path.name for path in output.iterdir()} == {
        "sr-unet-x2-window.fp32.onnx",
        "sr-unet-x2-window.fp16.onnx",
        "sr-unet-x2-window.int8-cpu.onnx",
        "sr-unet-x2-window.int8-tensorrt.onnx",
        "sr-unet-x2-window.calibration.json",
    }
    assert "random weights, only to test the export" in result.output
    assert "worst of 4" in result.output
    assert "dB SNR, worst of 4" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "no network named nothing; there are: rvrt-001"),
        (["sr-unet-x2", "--precision", "fp8"], "got --precision fp8; expected some of fp32, fp16, int8"),
        (["sr-unet-x2", "--engine", "cuda"], "got --engine cuda; expected rtx or tensorrt"),
        (["sr-unet-x2", "--tile", "17x16"], "got tiles of 17x16; the sides for sr-unet-x2 must be multiples of 16"),
    ],
)
def test_refusals_are_reported(arguments: list[str], message: str, tmp_path) -> None:
    result = CliRunner().invoke(app, ["export", *arguments, "--output", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert message in result.output


def test_networks_are_listed() -> None:
    result = CliRunner().invoke(app, ["networks"])
    assert result.exit_code == 0
    assert "residual-rvrt-tiny" in result.output


def test_real_tiles_are_cut_out_of_consecutive_frames(clip) -> None:
    (tile,) = real_tiles({"frames": (1, 2, 4, 8, 8)}, [clip], 1)
    assert tile["frames"].shape == (1, 2, 4, 8, 8)
    assert np.unique(tile["frames"][:, :, 3]).size == 1
    assert tile["frames"][:, :, :3].std() > 0.1


def test_a_clip_that_is_too_short_is_refused(clip) -> None:
    with pytest.raises(ValueError, match="has 3 frames of 32x24; a tile needs 4 of 8x8: use a longer or larger clip"):
        list(real_tiles({"frames": (1, 4, 3, 8, 8)}, [clip], 1))


@pytest.mark.parametrize(("old", "new"), [("half", "convert-fp16"), ("shipped", "build-zoo"), ("prove", "validate")])
def test_the_names_of_the_last_release_still_work_but_are_not_shown(old: str, new: str) -> None:
    listed = CliRunner().invoke(app, ["--help"]).output

    assert f"│ {new} " in listed
    assert f"│ {old} " not in listed
    assert CliRunner().invoke(app, [old, "--help"]).exit_code == 0
