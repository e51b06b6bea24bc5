import json
from pathlib import Path

import numpy as np
import pytest
import torch

from models.demucs import Demucs, DemucsConfig, downsample2, sinc_filter, upsample2

SMALL = DemucsConfig(hidden=6, depth=3)


def oracle(name: str) -> Path:
    """Find the published implementation's data, next to a developer's checkout."""
    for parent in Path(__file__).parents:
        path = parent / "shared" / "oracles" / name
        if path.exists():
            return path
    pytest.skip(f"no shared/oracles/{name} beside the project")


@pytest.mark.parametrize(("normalize", "expected"), [(True, "output"), (False, "output_unnormalized")])
def test_the_network_agrees_with_the_published_one(normalize: bool, expected: str) -> None:
    with np.load(oracle("demucs.npz")) as data:
        config = json.loads(str(data["config"]))
        network = Demucs(DemucsConfig(hidden=config["hidden"]), normalize=normalize)
        weights = {
            name.removeprefix("param/"): torch.from_numpy(data[name].astype(np.float32))
            for name in data.files
            if name.startswith("param/")
        }
        mixture, wanted = torch.from_numpy(data["input"])[None], data[expected]
    network.load_state_dict(weights, strict=True)

    with torch.inference_mode():
        heard = network(mixture)[0].numpy()

    assert np.abs(heard - wanted).max() <= 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize(("name", "hidden", "parameters"), [("dns48", 48, 18_867_937), ("dns64", 64, 33_533_569)])
def test_published_checkpoints_load_strictly(name: str, hidden: int, parameters: int) -> None:
    published = json.loads(oracle("demucs_state_dicts.json").read_text())[name]
    network = Demucs(DemucsConfig(hidden=hidden))

    network.load_state_dict({key: torch.zeros(shape) for key, shape in published.items()}, strict=True)

    assert sum(weight.numel() for weight in network.parameters()) == parameters


@pytest.mark.parametrize("length", [1, 37, 1000, 1023])
def test_any_length_comes_out_as_long(length: int) -> None:
    network = Demucs(SMALL)
    with torch.inference_mode():
        assert network(torch.randn(2, 1, length) + 0.1 if length > 1 else torch.ones(2, 1, 2)).shape[-1] == max(
            length, 2
        )


def test_what_comes_later_changes_nothing_before_the_look_ahead() -> None:
    torch.manual_seed(0)
    network = Demucs(SMALL, normalize=False).eval()
    mixture = torch.randn(1, 1, 4000)
    other = mixture.clone()
    other[..., 3000:] += 1
    # Filters of both rates, one frame of the deepest level and the overlap of each.
    look_ahead = 56 + 28 + 28 + 56 + 64

    with torch.inference_mode():
        difference = (network(mixture) - network(other)).abs()[0, 0]

    assert difference[: 3000 - look_ahead].max() == 0
    assert difference[3000:].max() > 1e-4


def test_normalisation_makes_the_network_blind_to_gain() -> None:
    torch.manual_seed(0)
    network = Demucs(DemucsConfig(hidden=6, depth=3, floor=0.0)).eval()
    mixture = torch.randn(1, 1, 2000)
    with torch.inference_mode():
        torch.testing.assert_close(network(10 * mixture), 10 * network(mixture), rtol=1e-4, atol=1e-4)


def test_a_network_that_predicts_noise_begins_as_the_identity() -> None:
    network = Demucs(DemucsConfig(hidden=6, depth=3, predicts="noise"), normalize=False)
    mixture = torch.randn(1, 1, 2000)
    with torch.inference_mode():
        torch.testing.assert_close(network(mixture), mixture)


def test_up_and_down_again_keeps_a_tone_in_place() -> None:
    sinc = sinc_filter()
    tone = torch.sin(torch.arange(2000) * 0.3)[None, None]
    doubled = upsample2(tone, sinc)
    torch.testing.assert_close(doubled[..., ::2], tone)
    inside = slice(300, 1700)
    torch.testing.assert_close(downsample2(doubled, sinc)[..., inside], tone[..., inside], atol=2e-3, rtol=0)
