"""With a fixed camera most tiles keep their result, without a visible difference."""

import numpy as np
import pytest

from runtime.engine.backends import find_backend
from runtime.engine.choose import ModelBackend
from runtime.manifest import find_model
from runtime.video.motion import MotionEstimator, PreparedFrame
from runtime.video.recurrent import RecurrentRunner
from runtime.video.static_tiles import StaticRule
from runtime.video.tile_plan import plan_canvas

CPU = ModelBackend(find_backend("cpu"))
MODEL = find_model("light-x2")
HEIGHT, WIDTH = 104, 160
QUICK = StaticRule(settle_runs=3, refresh_frames=10)


def still_scene(count, *, noise=0.0):
    rng = np.random.default_rng(4)
    picture = np.kron(rng.random((3, HEIGHT // 4, WIDTH // 4)), np.ones((4, 4))).astype(np.float32)
    for _ in range(count):
        frame = picture + rng.normal(0, noise, picture.shape)
        yield (np.round(frame.clip(0, 1) * 255) / 255).astype(np.float32)


def run(frames, *, rule, most_pixels=3000, begin_at=()):
    """Return the results, and the tiles that each frame kept."""
    canvas = plan_canvas(HEIGHT, WIDTH, MODEL.manifest.video, any_shape=True, most_pixels=most_pixels)
    motion = MotionEstimator(canvas, aligned=True)
    results, kept = [], []
    with RecurrentRunner(MODEL, CPU, canvas, strength=1.0, static=rule) as runner:
        for index, frame in enumerate(frames):
            if index in begin_at:
                runner.begin_segment()
            (enhanced,) = runner.push(motion.push(frame, pts=index, duration=1))
            results.append(enhanced.rgb.copy())
            kept.append(enhanced.kept_tiles)
    return results, kept, canvas


@pytest.mark.parametrize("most_pixels", [3000, 250_000])
def test_a_still_scene_is_computed_rarely_and_looks_the_same(most_pixels):
    frames = list(still_scene(30, noise=1 / 255))

    every, none, canvas = run(frames, rule=None, most_pixels=most_pixels)
    static, kept, _ = run(frames, rule=StaticRule(), most_pixels=most_pixels)

    assert (len(canvas.tiles) > 1) is (most_pixels == 3000)
    assert sum(none) == 0
    assert kept[:16] == [0] * 16
    assert sum(kept) >= 0.9 * len(canvas.tiles) * 14
    clean = next(still_scene(1)).repeat(2, 1).repeat(2, 2)
    psnr = [[-10 * np.log10(np.mean((one - clean) ** 2)) for one in results] for results in (every, static)]
    assert np.mean(psnr[1]) > np.mean(psnr[0]) - 0.1


def test_only_tiles_that_see_the_motion_are_computed():
    frames = list(still_scene(14))
    for number, frame in enumerate(frames):
        frame[:, 8:16, 4 + number : 12 + number] = 1

    results, kept, canvas = run(frames, rule=QUICK)
    every, _, _ = run(frames, rule=None)

    assert len(canvas.tiles) == 2
    assert kept == [0] * 3 + [1] * 6 + [0] + [1] * 4  # the tenth frame refreshes the tile that stands still
    assert np.abs(results[-1] - every[-1])[:, :40, :64].max() < 0.02


def test_a_sudden_change_shows_at_once():
    frames = list(still_scene(12))
    frames[10] = frames[10].copy()
    frames[10][:, 40:44, 20:24] = 1 - frames[10][:, 40:44, 20:24]

    results, kept, canvas = run(frames, rule=QUICK)

    assert kept[8] == len(canvas.tiles) == 2
    assert kept[10] <= 1
    assert np.abs(results[10] - results[9])[:, 80:88, 40:48].max() > 0.1


def test_every_tile_is_computed_again_within_so_many_frames():
    results, kept, canvas = run(list(still_scene(24, noise=0.2 / 255)), rule=QUICK)

    computed = [len(canvas.tiles) - one for one in kept]
    assert sum(computed[4:14]) == len(canvas.tiles) == sum(computed[14:24])
    assert max(computed[4:]) == 1
    assert not np.array_equal(results[5], results[16])


def test_a_new_segment_and_a_new_scene_keep_nothing():
    frames = list(still_scene(16))
    frames[12:] = [np.ascontiguousarray(1 - frame[:, ::-1]) for frame in frames[12:]]

    _, kept, canvas = run(frames, rule=QUICK, begin_at=(8,))

    assert len(canvas.tiles) == 2
    assert kept == [0] * 3 + [2] * 5 + [0] * 3 + [2] + [0] * 3 + [2]


def test_blended_tiles_are_always_computed():
    spec = MODEL.manifest.video.model_copy(update={"overlap": 8})
    model = type(MODEL)(folder=MODEL.folder, manifest=MODEL.manifest.model_copy(update={"video": spec}))
    canvas = plan_canvas(HEIGHT, WIDTH, spec, any_shape=True, most_pixels=3000)
    flow = np.zeros((2, canvas.height, canvas.width), np.float32)

    with RecurrentRunner(model, CPU, canvas, strength=1.0, static=QUICK) as runner:
        frames = [PreparedFrame(k, k, 1, frame, flow if k else None) for k, frame in enumerate(still_scene(6))]
        kept = [enhanced.kept_tiles for frame in frames for enhanced in runner.push(frame)]

    assert kept == [0] * 6
