"""`python -m benchmarks.video_quality MODEL --media FOLDER`: what a shipped video model gains on clips it never saw.

The clip is the truth; clips that are compressed are first brought down to a short side of `--truth-side`, which takes
their coding marks away. What the model gets is the truth brought down by bicubic (`bicubic`), or that with noise and
H.264 on top (`degraded`); what it is compared with is bicubic enlargement, or the degraded clip itself at the same
size. The shipped ONNX file runs through the shipped window and tiles. PSNR and SSIM are of BT.601 luma, 8 pixels of
border left out.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage.metrics import structural_similarity

from runtime.engine.backends import choose_backend
from runtime.manifest import Model, Quality, find_model
from runtime.video.canvas import plan_canvas
from runtime.video.tiling import TiledStep
from runtime.video.window import TemporalWindow
from training.degrade import compress

BORDER = 8
Pixels = NDArray[np.uint8]


def read_truth(path: Path, *, frames: int, multiple: int, side: int) -> list[Pixels]:
    """Read the first frames of a clip as RGB, brought down to a short side, and cut to a multiple of the scale."""
    found: list[Pixels] = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            pixels = frame.to_ndarray(format="rgb24")
            shrink = min(pixels.shape[:2]) / side
            if shrink > 1:
                pixels = _resize(pixels, round(pixels.shape[1] / shrink), round(pixels.shape[0] / shrink))
            height, width = (side // multiple * multiple for side in pixels.shape[:2])
            found.append(pixels[:height, :width])
            if len(found) == frames:
                break
    return found


def spoil(truth: Sequence[Pixels], *, scale: int, kind: str, noise_sigma: float, crf: int) -> list[Pixels]:
    """Make what the model gets."""
    height, width = truth[0].shape[:2]
    small = [_resize(frame, width // scale, height // scale) for frame in truth]
    if kind == "bicubic":
        return small
    generator = np.random.default_rng(2026)
    noisy = [frame + generator.normal(0, noise_sigma, frame.shape) for frame in small]
    stack = torch.from_numpy(np.stack(noisy).clip(0, 255).astype(np.float32) / 255).permute(0, 3, 1, 2)
    coded = compress(stack, crf).permute(0, 2, 3, 1)
    return [np.asarray((frame * 255).round(), np.uint8) for frame in coded.numpy()]


def enhance(model: Model, frames: Sequence[Pixels], *, threads: int) -> Iterator[Pixels]:
    """Run the shipped model over frames as the video pipeline does."""
    height, width = frames[0].shape[:2]
    assert model.manifest.video is not None
    canvas = plan_canvas(height, width, model.manifest.video)
    window = TemporalWindow(canvas, aligned=model.manifest.video.aligned_by == "flow")
    pad = (canvas.height * canvas.grid - height, canvas.width * canvas.grid - width)
    backend = choose_backend("cpu", threads=threads)
    with TiledStep(model, backend.open_session, canvas, strength=1.0) as step:
        for index, frame in enumerate(frames):
            planes = np.pad(frame.transpose(2, 0, 1), ((0, 0), (0, pad[0]), (0, pad[1])), mode="edge")
            rgb = step.run(window.push(planes.astype(np.float32) / 255, pts=index, duration=1))
            yield np.asarray((rgb.clip(0, 1) * 255).round(), np.uint8).transpose(1, 2, 0)


def luma(pixels: Pixels) -> NDArray[np.float64]:
    """Give BT.601 studio luma, 16 to 235, as super-resolution papers do."""
    inner = pixels[BORDER:-BORDER, BORDER:-BORDER].astype(np.float64) / 255
    return 16 + inner @ np.array([65.481, 128.553, 24.966])


def psnr(one: Pixels, other: Pixels) -> float:
    """Give PSNR-Y in dB."""
    return float(10 * np.log10(255**2 / max(np.mean((luma(one) - luma(other)) ** 2), 1e-6)))


def ssim(one: Pixels, other: Pixels) -> float:
    """Give SSIM of luma with the Gaussian window of its paper."""
    return float(
        structural_similarity(
            luma(one), luma(other), data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    )


def measure(model: Model, path: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Measure one clip: PSNR-Y and SSIM before (bicubic, or the degraded clip) and after."""
    assert model.manifest.video is not None
    scale = model.manifest.video.scale
    truth = read_truth(path, frames=arguments.frames, multiple=2 * scale, side=arguments.truth_side)
    poor = spoil(truth, scale=scale, kind=arguments.kind, noise_sigma=arguments.noise_sigma, crf=arguments.crf)
    figures = {"psnr_before": 0.0, "psnr_after": 0.0, "ssim_before": 0.0, "ssim_after": 0.0}
    height, width = truth[0].shape[:2]
    for sharp, small, result in zip(truth, poor, enhance(model, poor, threads=arguments.threads), strict=True):
        plain = _resize(small, width, height)
        figures["psnr_before"] += psnr(plain, sharp) / len(truth)
        figures["psnr_after"] += psnr(result, sharp) / len(truth)
        figures["ssim_before"] += ssim(plain, sharp) / len(truth)
        figures["ssim_after"] += ssim(result, sharp) / len(truth)
    return figures


def write_quality(model: Model, arguments: argparse.Namespace, means: dict[str, float], *, clips: int) -> None:
    """Put the measured means into the model's manifest, in place of those of the same kind."""
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


def _resize(pixels: Pixels, width: int, height: int) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC), np.uint8)


def main() -> None:
    """Measure the held-out clips and print a line for each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.video_quality", description=__doc__)
    parser.add_argument("model", help="a model of the zoo")
    parser.add_argument("--media", type=Path, required=True, help="folder with video/")
    parser.add_argument("--kind", choices=("bicubic", "degraded"), default="bicubic")
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--truth-side", type=int, default=360, help="short side that larger clips are brought down to")
    parser.add_argument("--noise-sigma", type=float, default=8.0, help="of 255, before compression; `degraded` only")
    parser.add_argument("--crf", type=int, default=28, help="of the H.264 compression; `degraded` only")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clips", nargs="*", help="file names; by default those that training held out")
    parser.add_argument("--write", action="store_true", help="put the means into the model's manifest")
    arguments = parser.parse_args()
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
