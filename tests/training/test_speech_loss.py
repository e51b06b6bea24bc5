import pytest
import torch

from training.speech_loss import speech_loss

ALL = {"snr_weight": 0.5, "stft_weight": 0.5, "compressed_weight": 1.0}
NONE = dict.fromkeys(ALL, 0.0)


def test_equal_signals_cost_nothing_and_the_gradient_is_finite() -> None:
    torch.manual_seed(0)
    target = torch.randn(2, 1, 4000)
    output = target.clone().requires_grad_()
    loss, figures = speech_loss(output, target, 2 * target, **ALL)
    loss.backward()
    assert figures.pop("snr") == pytest.approx(-3, abs=1e-4)
    assert figures == pytest.approx({"l1": 0, "convergence": 0, "magnitude": 0, "compressed": 0}, abs=1e-6)
    assert torch.isfinite(output.grad).all()


def test_silence_has_a_finite_gradient() -> None:
    output = torch.zeros(1, 1, 4000, requires_grad=True)
    mixture = torch.randn(1, 1, 4000)
    loss, _ = speech_loss(output, 0.1 * mixture, mixture, **ALL)
    loss.backward()
    assert torch.isfinite(output.grad).all()


@pytest.mark.parametrize("name", ["snr_weight", "stft_weight", "compressed_weight"])
def test_more_noise_costs_more(name: str) -> None:
    torch.manual_seed(0)
    target, noise = torch.randn(2, 1, 1, 8000)
    losses = [
        float(speech_loss(target + gain * noise, target, target + noise, **(NONE | {name: 1.0}))[0])
        for gain in (0.01, 0.1, 1.0)
    ]
    assert losses[0] + 0.1 < losses[1] < losses[2] - 0.1


def test_loud_and_quiet_examples_count_alike_in_the_snr() -> None:
    torch.manual_seed(0)
    target, noise = torch.randn(2, 1, 1, 8000)
    figures = [
        speech_loss(gain * (target + 0.3 * noise), gain * target, gain * (target + noise), **ALL)[1]
        for gain in (0.1, 1.0)
    ]
    assert figures[0]["snr"] == pytest.approx(figures[1]["snr"], abs=1e-4)
    assert figures[0]["l1"] == pytest.approx(0.1 * figures[1]["l1"], rel=1e-4)


def test_a_turned_phase_costs_in_the_compressed_loss() -> None:
    torch.manual_seed(0)
    target = torch.randn(1, 1, 8000)
    weights = NONE | {"compressed_weight": 1.0}
    _, same = speech_loss(target, target, target, **weights)
    _, turned = speech_loss(-target, target, target, **weights)
    assert same["compressed"] == pytest.approx(0, abs=1e-6)
    assert turned["compressed"] > 0.5
