"""`python -m benchmarks.video_quality MODEL --media FOLDER`: PSNR and SSIM of a shipped model on held-out clips.

The clip is the ground truth, downscaled to a short side of `--truth-side`, which removes compression artefacts. The
model's input is the ground truth downscaled by bicubic (`bicubic`), with noise and H.264 added (`degraded`). The
baseline is bicubic upscaling, or the degraded clip itself at the same size. The shipped ONNX file runs in the shipped
pipeline, in tiles. PSNR and SSIM are computed on BT.601 luma without 8 border pixels.
"""

import argparse
import json
from pathlib import Path

from skimage.metrics import structural_similarity

from calibration.quality import Pixels, TestDegradation, enhance, luma, make_test_clip, psnr, resize
from runtime.engine.backends import find_backend
from runtime.engine.choose import ModelBackend
from runtime.manifest import Model, Quality, find_model


def ssim(one: Pixels, other: Pixels) -> float:
    """Return the SSIM of luma, with the Gaussian window of the paper (Wang et al. 2004)."""
    return float(
        structural_similarity(
            luma(one), luma(other), data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    )


def measure(model: Model, path: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Measure one clip: PSNR-Y and SSIM before (bicubic, or the degraded clip) and after."""
    assert model.manifest.video is not None
    degradation = TestDegradation(arguments.kind, arguments.noise_sigma, arguments.crf)
    clip = make_test_clip(model, path, frames=arguments.frames, side=arguments.truth_side, degradation=degradation)
    figures = {"psnr_before": 0.0, "psnr_after": 0.0, "ssim_before": 0.0, "ssim_after": 0.0}
    gt = clip.gt
    height, width = gt[0].shape[:2]
    backend = ModelBackend(find_backend(arguments.backend), arguments.precision, arguments.threads)
    made = enhance(model, clip.lq, backend)
    for frame, small, result in zip(gt, clip.lq, made, strict=True):
        baseline = resize(small, width, height)
        figures["psnr_before"] += psnr(baseline, frame) / len(gt)
        figures["psnr_after"] += psnr(result, frame) / len(gt)
        figures["ssim_before"] += ssim(baseline, frame) / len(gt)
        figures["ssim_after"] += ssim(result, frame) / len(gt)
    return figures


def write_quality(model: Model, arguments: argparse.Namespace, means: dict[str, float], *, clips: int) -> None:
    """Write the means into the model's manifest, replacing those of the same command."""
    what = {
        "bicubic": "bicubic degradation",
        "degraded": f"bicubic, noise sigma {arguments.noise_sigma:g}, H.264 CRF {arguments.crf}",
    }[arguments.kind]
    data = (
        f"{clips} clips that training never saw, {arguments.frames} frames each, "
        f"short side at most {arguments.truth_side}, {what}"
    )
    command = (
        f"python -m benchmarks.video_quality {model.manifest.name} --kind {arguments.kind} "
        f"--frames {arguments.frames} --truth-side {arguments.truth_side} --noise-sigma {arguments.noise_sigma:g} "
        f"--crf {arguments.crf} --media FOLDER"
    )
    kept = [entry for entry in model.manifest.quality if entry.command != command]
    new = [
        Quality(
            measure=measure_name,
            data=data,
            before=round(means[f"{key}_before"], 4),
            after=round(means[f"{key}_after"], 4),
            command=command,
        )
        for measure_name, key in (("PSNR-Y dB", "psnr"), ("SSIM", "ssim"))
    ]
    manifest = model.manifest.model_copy(update={"quality": (*kept, *new)})
    path = model.folder / "manifest.json"
    path.write_text(json.dumps(manifest.model_dump(mode="json"), indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Measure the held-out clips and print a line per clip."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.video_quality", description=__doc__)
    parser.add_argument("model", help="a shipped model")
    parser.add_argument("--media", type=Path, required=True, help="folder with video/")
    parser.add_argument("--kind", choices=("bicubic", "degraded"), default="bicubic")
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--truth-side", type=int, default=360, help="short side that larger clips are downscaled to")
    parser.add_argument("--noise-sigma", type=float, default=8.0, help="of 255, before compression; `degraded` only")
    parser.add_argument("--crf", type=int, default=28, help="of the H.264 compression; `degraded` only")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=("fp32", "int8"), default="fp32", help="precision of the model")
    parser.add_argument("--backend", choices=("cpu", "openvino"), default="cpu", help="inference backend")
    parser.add_argument("--clips", nargs="*", help="file names (default: those held out by training)")
    parser.add_argument("--write", action="store_true", help="write the means into the model's manifest")
    arguments = parser.parse_args()
    if arguments.write and (arguments.precision, arguments.backend) != ("fp32", "cpu"):
        parser.error("--write is for fp32 on cpu; INT8 figures are written by relume-build calibrate --ship")
    model = find_model(arguments.model)
    totals: dict[str, float] = {}
    names = arguments.clips or model.manifest.training.held_out
    for name in names:
        figures = measure(model, arguments.media / "video" / name, arguments)
        totals = {key: totals.get(key, 0.0) + value / len(names) for key, value in figures.items()}
        _print(name, figures)
    _print("mean", totals)
    if arguments.write:
        write_quality(model, arguments, totals, clips=len(names))


def _print(name: str, figures: dict[str, float]) -> None:
    print(
        f"{name:36} PSNR-Y {figures['psnr_before']:6.2f} -> {figures['psnr_after']:6.2f} "
        f"({figures['psnr_after'] - figures['psnr_before']:+.2f})  SSIM {figures['ssim_before']:.4f} -> "
        f"{figures['ssim_after']:.4f} ({figures['ssim_after'] - figures['ssim_before']:+.4f})",
        flush=True,
    )


if __name__ == "__main__":
    main()
