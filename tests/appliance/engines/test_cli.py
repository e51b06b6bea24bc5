"""`relume engines`, with real engines."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from appliance.engines.cli import app
from runtime.errors import EngineStoreError, OptionError

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def engines(tmp_path):
    """Run a subcommand; its exceptions are raised here."""

    def run(*words, code=0):
        done = CliRunner().invoke(app, [*words, "--data", str(tmp_path)], catch_exceptions=False)
        assert done.exit_code == code
        return done.stdout.rstrip("\n")

    return run


def test_an_engine_is_built_listed_verified_and_cleared(engines, tmp_path):
    assert engines("list") == "no engines; all models run with ONNX Runtime"

    (built,) = json.loads(
        engines("build", "light-x4", "--tile", "32x32", "--precision", "fp32", "--flavour", "openvino", "--json")
    )
    assert (built["outcome"], built["reason"]) == ("ready", "")
    (listed,) = json.loads(engines("list", "--json"))
    assert (listed["name"], listed["state"], listed["sizes"]) == (built["name"], "ready", "32x32")
    assert "ready" in engines("list")

    blob = next((tmp_path / "engines" / "ready").glob("*/engine.blob"))
    assert "passed" in engines("verify")
    blob.write_bytes(blob.read_bytes()[:-1])
    assert "engine.blob changed on disk" in engines("verify", built["name"][:20], code=5)
    assert [engine["state"] for engine in json.loads(engines("list", "--json"))] == ["quarantined"]

    assert engines("prune", "--budget", "0").startswith(f"removed {built['name']}")
    assert engines("list") == "no engines; all models run with ONNX Runtime"


def test_errors_are_reported(engines, tmp_path):
    with pytest.raises(OptionError, match="name a model, or use --all"):
        engines("build")
    with pytest.raises(OptionError, match="name a model, or use --all"):
        engines("build", "light-x4", "--all")
    with pytest.raises(OptionError, match="unknown flavour 'onnx'; choose from rtx, tensorrt, openvino"):
        engines("build", "light-x4", "--flavour", "onnx")
    with pytest.raises(OptionError, match="--tile is 32, expected width x height"):
        engines("build", "light-x4", "--flavour", "openvino", "--tile", "32")
    with pytest.raises(OptionError, match="model light-x2 has no file in fp16 for openvino"):
        engines("build", "light-x2", "--flavour", "openvino", "--precision", "fp16")
    with pytest.raises(EngineStoreError, match="no ready engines have names that start with light"):
        engines("verify", "light")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_ctrl_c_stops_a_build_and_leaves_no_half_engine(tmp_path):
    command = [sys.executable, "-c", "from appliance.cli import main; main()", "engines", "build", "--all"]
    with subprocess.Popen(
        [*command, "--flavour", "openvino", "--data", str(tmp_path)], cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stderr:
            if line.endswith(": building\n"):
                break
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        last = process.stderr.read()

    assert process.returncode == 130
    assert time.monotonic() - began < 30
    assert "was cancelled; nothing was kept" in last
    assert list((tmp_path / "engines" / "partial").iterdir()) == []


def test_all_means_every_presets_models_at_usual_sizes():
    from runtime.common_shapes import preset_models, requests_for
    from runtime.engine.device import EngineType

    requests = [request for model in preset_models() for request in requests_for(model, EngineType.OPENVINO)]

    assert {request.model for request in requests} == {"light-restore", "light-x2", "light-x4", "speech-mask"}
    speech = [request for request in requests if request.model == "speech-mask"]
    assert [request.dimensions for request in speech] == [(("samples", 1024),)]
    assert len(set(requests)) == len(requests) > 8


def test_help_is_there_without_anything_heavy():
    program = (
        "import sys, appliance.engines.cli\n"
        "heavy = {'numpy', 'av', 'pydantic', 'openvino', 'onnxruntime'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
