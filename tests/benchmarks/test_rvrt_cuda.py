"""The RVRT benchmark for GPUs works as far as a CPU can show: it can measure there, and refuses to without CUDA."""

import re
from dataclasses import replace

import pytest
import torch

from benchmarks.rvrt_cuda import Case, main, measure, tile_corners

TILED = Case("residual-rvrt-tiny", "cpu", "torch", "fp32", (24, 32), (16, 16), 2, 1)


def test_tiles_cover_the_frame_and_end_at_its_border() -> None:
    corners = tile_corners((180, 320), (64, 64))
    covered = torch.zeros(180, 320)
    for top, left in corners:
        assert top + 64 <= 180
        assert left + 64 <= 320
        covered[top : top + 64, left : left + 64] += 1
    assert covered.min() == 1
    assert len(set(corners)) == len(corners) == 24


def test_a_frame_as_large_as_a_tile_is_one_tile() -> None:
    assert tile_corners((64, 64), (64, 64)) == [(0, 0)]


@pytest.mark.parametrize("precision", ["fp32", pytest.param("fp16", marks=pytest.mark.slow)])
def test_torch_is_measured_whole_and_in_tiles(precision: str) -> None:
    tiled = measure(replace(TILED, precision=precision))
    whole = measure(replace(TILED, precision=precision, tile=None))
    # Four tiles of 16x16 are a third more than the frame, with four times the overhead.
    assert tiled.frame_ms > 0
    assert whole.frame_ms > 0
    assert tiled.peak_mb >= 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_without_cuda_it_explains_what_to_do(capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 2
    assert "sees no CUDA device: install a CUDA build of torch" in capsys.readouterr().err


@pytest.mark.slow
def test_every_line_is_measured_on_a_cpu(capfd) -> None:
    main(
        [
            *("--device", "cpu", "--network", "residual-rvrt-tiny", "--size", "32x32", "--tile", "16x16"),
            *("--frames", "2", "--repeats", "1"),
        ]
    )
    lines = capfd.readouterr().out.splitlines()
    measured = [line for line in lines if line.endswith(" MB")]
    assert [line.split()[:2] for line in measured] == [
        [runtime, precision] for runtime in ("torch", "onnxruntime") for precision in ("fp32", "fp16") for _ in (0, 1)
    ]
    assert all(float(re.search(r"([\d.]+) ms", line).group(1)) > 0 for line in measured)
    assert "183 ms" in lines[1]
