"""Windows of frames over a clip: every frame once, no visible joint, no influence across scenes."""

import tracemalloc

import numpy as np
import pytest

from runtime.engine.backends import find_backend
from runtime.engine.choose import ModelBackend
from runtime.errors import ManifestError
from runtime.manifest import Model
from runtime.video.degradation import estimate_noise
from runtime.video.fallback import TileRetry
from runtime.video.motion import PreparedFrame
from runtime.video.pipeline import open_runner
from runtime.video.sliding_window import SlidingWindowRunner, mirror
from runtime.video.tile_plan import plan_canvas

CPU = ModelBackend(find_backend("cpu"))


def noise(count, height=32, width=32, seed=0):
    return list(np.random.default_rng(seed).random((count, 3, height, width), np.float32))


def run(model, pictures, *, cuts=(0,), strength=1.0, step=None):
    height, width = pictures[0].shape[1:]
    canvas = plan_canvas(height, width, model.manifest.video)
    flow = np.zeros((2, canvas.height, canvas.width), np.float32)
    pad = ((0, 0), (0, canvas.height - height), (0, canvas.width - width))
    with step or open_runner(model, CPU, canvas, strength=strength) as opened:
        given = []
        for index, rgb in enumerate(pictures):
            frame = PreparedFrame(index, 10 * index, 7, np.pad(rgb, pad, mode="edge"), None if index in cuts else flow)
            given += list(opened.push(frame))
        given += list(opened.flush())
    assert [frame.index for frame in given] == list(range(len(pictures)))
    assert [(frame.pts, frame.duration) for frame in given] == [(10 * index, 7) for index in range(len(pictures))]
    return [frame.rgb for frame in given], opened


def window(pictures, start, length=4, share=0.5):
    """Return the expected result of one window."""
    seen = np.stack(pictures[start : start + length])
    return (1 - share) * seen + share * seen.mean(0)


def test_a_window_that_covers_the_clip_is_the_network_itself(clip_model):
    pictures = noise(4)

    found, step = run(clip_model(), pictures)

    assert isinstance(step, SlidingWindowRunner)
    np.testing.assert_allclose(found, window(pictures, 0), atol=1e-6)


def test_windows_are_faded_and_the_last_one_ends_with_the_scene(clip_model):
    pictures = noise(12)

    found, _ = run(clip_model(), pictures)

    first, second, third, last = (window(pictures, start) for start in (0, 3, 6, 8))
    expected = [*first[:3], (first[3] + second[0]) / 2, *second[1:3], (second[3] + third[0]) / 2, *third[1:3]]
    np.testing.assert_allclose(found, [*expected, (third[3] + last[1]) / 2, *last[2:]], atol=1e-6)


def test_a_fade_over_several_frames_goes_from_one_window_to_the_next(clip_model):
    pictures = noise(10)

    found, _ = run(clip_model(frames=6, overlap=2), pictures)

    first, second = (window(pictures, start, length=6) for start in (0, 4))
    share = [0.5 - 0.5 * np.cos(np.pi * 0.25), 0.5 - 0.5 * np.cos(np.pi * 0.75)]
    for place in (0, 1):
        mixed = (1 - share[place]) * first[4 + place] + share[place] * second[place]
        np.testing.assert_allclose(found[4 + place], mixed, atol=1e-6)
    np.testing.assert_allclose(found[:4], first[:4], atol=1e-6)
    np.testing.assert_allclose(found[6:], second[2:], atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_scene_shorter_than_a_window_is_played_on_backwards(clip_model, count):
    pictures = noise(count)

    found, _ = run(clip_model(), pictures)

    filled = {1: [0, 0, 0, 0], 2: [0, 1, 0, 1], 3: [0, 1, 2, 1]}[count]
    assert mirror(count, 4) == filled
    mean = np.mean([pictures[index] for index in filled], 0)
    np.testing.assert_allclose(found, [0.5 * picture + 0.5 * mean for picture in pictures], atol=1e-6)


@pytest.mark.parametrize("cut", [1, 4, 5, 8])
def test_a_scene_owes_nothing_to_the_one_before_or_after(clip_model, cut):
    model, pictures = clip_model(), noise(9)

    both, _ = run(model, pictures, cuts=(0, cut))

    before, _ = run(model, pictures[:cut])
    after, _ = run(model, pictures[cut:])
    np.testing.assert_array_equal(both, [*before, *after])


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 90), (20, 47), (70, 65)])
@pytest.mark.parametrize("scale", [1, 2])
def test_every_size_is_complete_and_in_place(clip_model, height, width, scale):
    pictures = noise(5, height, width)

    found, _ = run(clip_model(scale=scale, share=0.0), pictures)

    expected = [np.kron(picture, np.ones((scale, scale), np.float32)) for picture in pictures]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_tiles_that_differ_are_blended_without_a_step(clip_model):
    ramp = np.broadcast_to(np.linspace(0, 1, 104, dtype=np.float32), (3, 32, 104))
    steps = {}

    for blend in (0, 8):
        model = clip_model(name=f"blend-{blend}", blend=blend, spread=0.5)
        found, _ = run(model, [ramp] * 4)
        steps[blend] = float(np.abs(np.diff(found[0], axis=2)).max())

    assert steps[0] > 0.1, "beside each other the tiles' means differ"
    assert steps[8] < 0.04


def test_strength_mixes_with_the_bicubic_frame(clip_model):
    model, pictures = clip_model(), noise(4)

    full, _ = run(model, pictures)
    half, _ = run(model, pictures, strength=0.5)
    none, _ = run(model, pictures, strength=0.0)

    np.testing.assert_allclose(none, pictures, atol=1e-6)
    np.testing.assert_allclose(half, (np.array(full) + pictures) / 2, atol=1e-6)


def test_a_frame_with_an_invalid_tile_falls_back_to_bicubic(clip_model):
    pictures = [np.full((3, 32, 56), 0.25, np.float32) for _ in range(7)]
    pictures[4][:, 3, 50] = 0.9

    found, step = run(clip_model(share=0.0, spread=0.2, limit=0.8), pictures)

    assert step.reruns == [TileRetry(4, 1, cured=False)]
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[4][:, :, 32:], pictures[4][:, :, 32:], atol=1e-6)
    np.testing.assert_allclose(found[4][:, :, :24], 0.3, atol=1e-6)
    np.testing.assert_allclose(found[5], 0.3, atol=1e-6)


def test_no_more_than_a_window_and_its_tail_is_held(clip_model):
    model = clip_model(tile=(128, 128))
    canvas = plan_canvas(128, 128, model.manifest.video)
    flow = np.zeros((2, 128, 128), np.float32)
    peaks = []

    with open_runner(model, CPU, canvas, strength=1.0) as step:
        for count in (20, 60):
            tracemalloc.start()
            for index in range(count):
                frame = PreparedFrame(index, index, 1, np.zeros((3, 128, 128), np.float32), flow if index else None)
                for _ in step.push(frame):
                    pass
                assert len(step.states["frames"]) <= 4
                assert len(step.states["tail"]) <= 1
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()

    assert peaks[1] < 1.05 * peaks[0]


@pytest.mark.parametrize("stop", range(1, 12))
def test_a_clip_continues_from_its_state_with_the_same_bits(clip_model, stop):
    model, pictures = clip_model(frames=5, overlap=2), noise(12, 40, 50)
    whole, _ = run(model, pictures)
    canvas = plan_canvas(40, 50, model.manifest.video)
    flow = np.zeros((2, canvas.height, canvas.width), np.float32)
    frames = [PreparedFrame(index, index, 1, rgb, flow if index else None) for index, rgb in enumerate(pictures)]

    with open_runner(model, CPU, canvas, strength=1.0) as step:
        given = [one for frame in frames[:stop] for one in step.push(frame)]
        states = {name: state.copy() for name, state in step.states.items()}
    with open_runner(model, CPU, canvas, strength=1.0) as step:
        step.restore(states, ())
        given += [one for frame in frames[stop:] for one in step.push(frame)]
        given += list(step.flush())

    assert [one.index for one in given] == list(range(12))
    np.testing.assert_array_equal([one.rgb for one in given], whole)


def test_a_network_with_a_noise_input_gets_the_level_of_each_frame(clip_model):
    rng = np.random.default_rng(1)
    sigmas = np.array([0, 10, 30, 5]) / 255
    pictures = [np.repeat(rng.normal(0.5, sigma, (1, 32, 32)).astype(np.float32), 3, axis=0) for sigma in sigmas]

    found, _ = run(clip_model(share=0.0, level=True), pictures)

    added = [float((result - picture).mean()) for result, picture in zip(found, pictures, strict=True)]
    assert added == pytest.approx(sigmas, rel=0.15, abs=1e-4)
    assert added == pytest.approx([estimate_noise(picture[0]) for picture in pictures], abs=1e-5)


def test_a_window_that_differs_from_the_manifest_is_refused(clip_model):
    model = clip_model()
    video = model.manifest.video.model_copy(update={"look_ahead": 7})
    other = Model(folder=model.folder, manifest=model.manifest.model_copy(update={"video": video}))

    with pytest.raises(ManifestError, match="but its manifest says 8 frames of 32x32; import the model again"):
        SlidingWindowRunner(other, CPU, plan_canvas(32, 32, video), strength=1.0)
