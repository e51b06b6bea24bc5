"""The benchmark of precisions reports each one's time and quality relative to float32."""

import json
import sys

import pytest

from benchmarks.precision import VARIANTS, main


@pytest.mark.slow
def test_every_precision_has_its_row_and_a_point_in_the_plot(tmp_path, monkeypatch, capsys):
    pytest.importorskip("skimage", reason="the sample's photographs come with scikit-image")
    arguments = ["precision", "light-x4", "--frames", "2", "--repeats", "3", "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setenv("COLUMNS", "140")

    main()

    rows = {row["variant"]: row for row in json.loads((tmp_path / "light-x4.precision.json").read_text())}
    assert list(rows) == list(VARIANTS)
    exact = rows["ONNX Runtime fp32"]["psnr_db"]
    assert rows["OpenVINO f32"]["psnr_db"] == pytest.approx(exact, abs=1e-3)
    assert rows["OpenVINO int8"]["psnr_db"] == pytest.approx(exact, abs=0.15)
    assert rows["OpenVINO int8"]["psnr_db"] == pytest.approx(rows["ONNX Runtime int8"]["psnr_db"], abs=0.02)
    assert (tmp_path / "light-x4.precision.png").stat().st_size > 1000
    assert "7.24 GFLOP a frame, floor" in capsys.readouterr().out
