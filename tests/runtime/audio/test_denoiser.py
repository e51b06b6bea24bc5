import numpy as np
import pytest

from runtime.audio.denoiser import RecurrentDenoiser
from runtime.errors import ManifestError


def voice(count: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(count).astype(np.float32) * 0.05


def run(denoiser: RecurrentDenoiser, signal: np.ndarray, *, size: int = 700) -> np.ndarray:
    parts = [denoiser.push(signal[start : start + size]) for start in range(0, len(signal), size)]
    return np.concatenate([*parts, denoiser.flush()])


@pytest.mark.parametrize("count", [0, 1, 424, 425, 426, 10_000])
@pytest.mark.parametrize("block", [256, 512, 1024, 2048])
def test_the_delay_is_taken_off_and_the_count_kept(make_model, open_with, count: int, block: int) -> None:
    denoiser = RecurrentDenoiser(make_model(block_samples=block), open_with())
    signal = voice(count)
    np.testing.assert_allclose(run(denoiser, signal), signal, atol=1e-6)


def test_the_network_hears_its_input_at_unit_level(make_model, open_with) -> None:
    heard = []
    opener = open_with(lambda y: heard.append(y.copy()) or y)
    run(RecurrentDenoiser(make_model(), opener), voice(32_000) * 0.01)
    level = np.sqrt(np.mean(np.square(heard[-8:-3])))
    assert level == pytest.approx(1, rel=0.15)


def test_a_network_that_predicts_noise_is_subtracted(make_model, open_with) -> None:
    signal = voice(8_000)
    denoiser = RecurrentDenoiser(make_model(predicts="noise"), open_with(lambda y: 0.25 * y))
    np.testing.assert_allclose(run(denoiser, signal), 0.75 * signal, atol=1e-6)


@pytest.mark.parametrize(("block", "silent_blocks"), [(256, 2), (512, 1), (1024, 1)])
def test_states_are_reset_between_lead_in_and_signal(make_model, open_with, block: int, silent_blocks: int) -> None:
    """The previous state of the reset step must be zero, although the lead-in left something in it."""
    opener = open_with()
    denoiser = RecurrentDenoiser(make_model(block_samples=block, reset_states=("past",)), opener)
    pasts, run_once = [], opener.session.run

    def corrupt(tensors):
        pasts.append(tensors["past"].copy())
        result = run_once(tensors)
        result["past_next"][...] = 7
        return result

    opener.session.run = corrupt
    run(denoiser, voice(5_000))

    resets = [index for index, past in enumerate(pasts) if not past.any()]
    assert resets == [0, silent_blocks]


def test_a_recovered_block_starts_from_zero_states(make_model, open_with) -> None:
    signal = voice(20_000)
    calls = []

    def fails_once(y: np.ndarray) -> np.ndarray:
        calls.append(y.copy())
        return np.full_like(y, np.inf) if len(calls) == 6 else y

    denoiser = RecurrentDenoiser(make_model(), open_with(fails_once))
    heard = run(denoiser, signal)
    assert denoiser.non_finite_blocks == 1
    assert not calls[6][..., :508].any()
    np.testing.assert_array_equal(calls[6][..., 508:], calls[5][..., 508:])
    assert np.isfinite(heard).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block_samples": 1000}, "blocks of 1000 samples; expected a multiple of 256"),
        ({"block_samples": 128, "block_multiple": 128}, "blocks of 128 samples"),
    ],
)
def test_blocks_off_the_frame_grid_are_refused(make_model, open_with, changes, message) -> None:
    with pytest.raises(ManifestError, match=message):
        RecurrentDenoiser(make_model(**changes), open_with())


def test_a_video_model_is_refused(make_model, open_with) -> None:
    model = make_model()
    manifest = model.manifest.model_copy(update={"task": "video-restoration", "audio": None})
    with pytest.raises(ManifestError, match="is for video-restoration, not for speech"):
        RecurrentDenoiser(model.model_copy(update={"manifest": manifest}), open_with())
