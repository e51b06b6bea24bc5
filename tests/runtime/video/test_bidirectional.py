"""A network in parts over any clip: exact forwards, backwards through a window, both warped on the canvas."""

import tracemalloc

import numpy as np
import pytest

from runtime.engine.backends import find_backend
from runtime.engine.choose import ModelBackend
from runtime.errors import ManifestError
from runtime.manifest import Model
from runtime.video.bidirectional import BidirectionalRunner
from runtime.video.fallback import TileRetry
from runtime.video.motion import PreparedFrame
from runtime.video.pipeline import open_runner
from runtime.video.tile_plan import plan_canvas

CPU = ModelBackend(find_backend("cpu"))


def noise(count, height=32, width=32, seed=0):
    return list(np.random.default_rng(seed).random((count, 3, height, width), np.float32))


def to_frames(pictures, cuts=(0,)):
    flow = np.zeros((2, *pictures[0].shape[1:]), np.float32)
    return [PreparedFrame(k, 10 * k, 7, rgb, None if k in cuts else flow) for k, rgb in enumerate(pictures)]


def run(model, pictures, *, cuts=(0,), strength=1.0):
    canvas = plan_canvas(*pictures[0].shape[1:], model.manifest.video)
    with open_runner(model, CPU, canvas, strength=strength) as step:
        given = [one for frame in to_frames(pictures, cuts) for one in step.push(frame)]
        given += list(step.flush())
    assert isinstance(step, BidirectionalRunner)
    assert [(one.index, one.pts, one.duration) for one in given] == [(k, 10 * k, 7) for k in range(len(pictures))]
    return [one.rgb for one in given], step


def moved(features):
    """Read one pixel further right, and zeros beyond the edge, as for the flow (1, 0)."""
    return np.pad(features[:, 1:], ((0, 0), (0, 1)))


def formula(pictures, windows):
    """Return the expected result; `windows` are (first, first frame without output, end) of each backward run."""
    means = [picture.mean(0) for picture in pictures]
    results, forward = [], None
    for first, given, end in windows:
        backward, later = {}, None
        for index in reversed(range(first, end)):
            later = means[index] + (0 if later is None else 0.5 * moved(later))
            backward[index] = later
        for index in range(first, given):
            forward = means[index] + (0 if forward is None else 0.5 * moved(forward))
            results.append(pictures[index] + backward[index] + forward)
    return results


def test_a_scene_that_fits_into_a_window_is_the_whole_network(chain_model):
    pictures = noise(4)

    found, _ = run(chain_model(), pictures)

    np.testing.assert_allclose(found, formula(pictures, [(0, 4, 4)]), atol=1e-5)


def test_a_longer_one_propagates_forwards_and_looks_ahead_by_at_least_the_overlap(chain_model):
    pictures = noise(11)

    found, _ = run(chain_model(frames=5, overlap=2), pictures)

    np.testing.assert_allclose(found, formula(pictures, [(0, 3, 5), (3, 6, 8), (6, 9, 11), (9, 11, 11)]), atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(32, 33), (40, 70), (47, 32)])
def test_tiles_equal_a_single_tile(chain_model, height, width):
    pictures = noise(6, height, width)

    tiled, _ = run(chain_model(flow=(2.5, -1.25)), pictures)
    whole, _ = run(chain_model(name="whole", tile=(height, width), flow=(2.5, -1.25)), pictures)

    np.testing.assert_allclose(tiled, whole, atol=1e-5)


@pytest.mark.parametrize("cut", [1, 3, 5, 6])
def test_a_scene_owes_nothing_to_the_one_before_or_after(chain_model, cut):
    model, pictures = chain_model(), noise(8)

    both, _ = run(model, pictures, cuts=(0, cut))

    before, _ = run(model, pictures[:cut])
    after, _ = run(model, pictures[cut:])
    np.testing.assert_array_equal(both, [*before, *after])


@pytest.mark.parametrize(("until", "passes"), [(255.0, 1), (20.0, 3), (0.0, 4)])
def test_cleaning_is_repeated_until_little_changes(chain_model, until, passes):
    pictures = [np.full((3, 32, 32), 0.5, np.float32) for _ in range(4)]
    model = chain_model(passes=4, until=until)

    found, _ = run(model, pictures)

    # A pass changes the frames by 64, 32, 16 and 8 of 255.
    clean = [picture / 2**passes for picture in pictures]
    np.testing.assert_allclose(found, formula(clean, [(0, 4, 4)]), atol=1e-5)


def test_strength_mixes_with_the_frame_as_it_came(chain_model):
    model, pictures = chain_model(passes=2), noise(5)

    full, _ = run(model, pictures)
    half, _ = run(model, pictures, strength=0.5)

    np.testing.assert_allclose(half, (np.array(full) + pictures) / 2, atol=1e-5)


def test_features_with_nan_are_reset_and_reported(chain_model):
    pictures = [np.full((3, 32, 32), 1.0, np.float32) for _ in range(4)]

    found, step = run(chain_model(limit=1.6, flow=(0, 0)), pictures)

    # Carried are 1, 1.5, 1.75: the fourth frame, seen from either end, exceeds the limit.
    assert step.reruns == [TileRetry(0, 0, cured=True), TileRetry(3, 0, cured=True)]
    np.testing.assert_allclose(found[3], 1 + 1 + 1, atol=1e-5)
    np.testing.assert_allclose(found[2], 1 + 1.5 + 1.75, atol=1e-5)


@pytest.mark.parametrize("stop", range(1, 11))
def test_a_clip_continues_from_its_state_with_the_same_bits(chain_model, stop):
    model, pictures = chain_model(frames=5, overlap=2, passes=3, until=20.0), noise(11)
    whole, _ = run(model, pictures)
    canvas, frames = plan_canvas(32, 32, model.manifest.video), to_frames(pictures)

    with open_runner(model, CPU, canvas, strength=1.0) as step:
        given = [one for frame in frames[:stop] for one in step.push(frame)]
        states = {name: state.copy() for name, state in step.states.items()}
    with open_runner(model, CPU, canvas, strength=1.0) as step:
        step.restore(states, ())
        given += [one for frame in frames[stop:] for one in step.push(frame)]
        given += list(step.flush())

    assert [one.index for one in given] == list(range(11))
    np.testing.assert_array_equal([one.rgb for one in given], whole)


def test_memory_is_that_of_a_window_however_long_the_clip(chain_model):
    model = chain_model(tile=(128, 128))
    canvas, picture = plan_canvas(128, 128, model.manifest.video), np.zeros((3, 128, 128), np.float32)
    peaks = []

    with open_runner(model, CPU, canvas, strength=1.0) as step:
        for count in (20, 60):
            tracemalloc.start()
            for index in range(count):
                frame = PreparedFrame(index, index, 1, picture.copy(), picture[:2] if index else None)
                for _ in step.push(frame):
                    pass
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()

    assert peaks[1] < 1.05 * peaks[0]


def test_parts_that_differ_from_the_manifest_are_refused(chain_model):
    model = chain_model()
    video = model.manifest.video.model_copy(update={"tile_shapes": ((16, 16),)})
    other = Model(folder=model.folder, manifest=model.manifest.model_copy(update={"video": video}))

    with pytest.raises(ManifestError, match=r"but its manifest says tiles of 16x16; import the model again"):
        BidirectionalRunner(other, CPU, plan_canvas(32, 32, video), strength=1.0)
