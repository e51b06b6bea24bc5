"""A user's own network is converted to INT8 part by part, and runs."""

import io

import numpy as np
import pytest
import torch
from rich.console import Console

from calibration.calibrate import calibrate
from calibration.material import CalibrationRequest
from calibration.recording import run_model
from export.importers.bidirectional import write_chain
from export.importers.entry import Imported
from models.basicvsr import BasicVsr, BasicVsrConfig
from models.spynet import SpynetConfig
from runtime.engine.choose import BackendPreference, choose_engine, offered_precisions
from runtime.manifest import find_model

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # the exporter's deprecation warnings


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """A small BasicVSR in parts, calibrated with the sample."""
    pytest.importorskip("skimage", reason="the sample's photographs come with scikit-image")
    folder = tmp_path_factory.mktemp("own")
    torch.manual_seed(0)
    flow = SpynetConfig(levels=1, widths=(4, 4, 4, 4))
    network = BasicVsr(BasicVsrConfig(channels=4, blocks=1, flow=flow)).eval()
    (folder / "own.pth").write_bytes(b"weights")
    imported = Imported(
        name="own", title="own", task="video-super-resolution", architecture="own", paper="own", licence="own",
        source=folder / "own.pth", scale=4, tile=(32, 32), frames=3, overlap=1, side_multiple=1,
    )  # fmt: skip
    write_chain(network, imported, folder / "zoo")
    request = CalibrationRequest("own", frames=3, side=24, test_frames=3, gt_side=96, ship=True, output=folder / "out")
    calibrate(request, console=Console(file=io.StringIO()), zoo=folder / "zoo")
    return folder / "zoo"


def test_every_part_has_its_file_its_ranges_and_its_loss(zoo):
    model = find_model("own", zoo)
    quantised = [file for file in model.manifest.files if file.precision == "int8"]
    files = {file.role: file for file in quantised if file.form == "cpu"}

    assert files.keys() == {"flow", "backward", "forward", "reconstruction"}
    assert {file.role for file in quantised if file.form == "tensorrt"} == files.keys()
    assert offered_precisions(model) == ("fp32", "int8")
    assert all((zoo / "own" / file.calibration.path).is_file() for file in files.values())
    assert all(file.calibration.samples > 1 for file in files.values())
    (loss,) = {file.calibration.loss[0] for file in files.values()}
    assert loss.before - loss.after <= 0.15
    assert "relume-build calibrate own --clips FOLDER --zoo OWN_ZOO --side 24" in loss.command
    assert not list((zoo / "own").glob(".*"))


def test_a_job_in_int8_runs_the_quantised_parts(zoo):
    model = find_model("own", zoo)
    frames = list(np.random.default_rng(3).uniform(0, 1, (4, 3, 24, 40)).astype(np.float32))

    made = {
        precision: list(
            run_model(model, frames, choose_engine(model, BackendPreference("cpu", precision), threads=1).backend)
        )
        for precision in ("fp32", "int8")
    }

    assert [frame.shape for frame in made["int8"]] == [(3, 96, 160)] * 4
    difference = np.abs(np.array(made["int8"]) - np.array(made["fp32"]))
    assert 0 < difference.max() < 0.05
