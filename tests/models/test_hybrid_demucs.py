import pytest
import torch

from models.basicvsr import count_parameters
from models.hybrid_demucs import HybridDemucs, HybridDemucsConfig
from models.hybrid_demucs_layers import LocalAttention

TINY = HybridDemucsConfig(channels=4, bands=128, hop=64, strided_levels=3, norm_from=2, deep_from=2)


@pytest.mark.parametrize("length", [512, 1000, 129])
def test_any_length_comes_out_as_long(length: int) -> None:
    network = HybridDemucs(TINY).eval()
    with torch.inference_mode():
        heard = network(torch.randn(2, 1, length))
    assert heard.shape == (2, 1, length)
    assert torch.isfinite(heard).all()


def test_the_transforms_undo_each_other_inside_a_segment() -> None:
    network = HybridDemucs(TINY)
    tone = torch.sin(torch.arange(2048) * 0.2).view(1, 1, -1)
    spectrum = network.spectrum(tone)
    assert spectrum.shape == (1, 2, 128, 32)
    inside = slice(256, -256)
    torch.testing.assert_close(network.inverse(spectrum, 2048)[..., inside], tone[..., inside], rtol=0, atol=1e-4)


def test_sources_and_channels_multiply() -> None:
    config = HybridDemucsConfig(
        audio_channels=2, sources=3, channels=4, bands=128, hop=64, strided_levels=3, norm_from=2, deep_from=2
    )
    with torch.inference_mode():
        assert HybridDemucs(config).eval()(torch.randn(1, 2, 512)).shape == (1, 6, 512)


def test_the_published_sizes_give_the_published_count() -> None:
    network = HybridDemucs(HybridDemucsConfig(audio_channels=2, sources=4))
    assert count_parameters(network) == pytest.approx(83.6e6, rel=1e-3)


def test_loudness_does_not_matter() -> None:
    torch.manual_seed(0)
    network = HybridDemucs(TINY).eval()
    mixture = torch.randn(1, 1, 512)
    with torch.inference_mode():
        torch.testing.assert_close(network(4 * mixture), 4 * network(mixture), rtol=1e-3, atol=1e-3)


def test_attention_stays_near_where_the_penalty_is_strong() -> None:
    torch.manual_seed(0)
    attention = LocalAttention(16).eval()
    attention.decay.bias.data.fill_(20.0)
    x = torch.randn(1, 16, 60)
    other = x.clone()
    other[..., 0] += 3
    with torch.inference_mode():
        changed = (attention(x) - attention(other)).abs().amax(dim=(0, 1))
    assert changed[:3].max() > 1e-3
    assert changed[40:].max() < 1e-3


def test_domains_that_do_not_meet_are_refused() -> None:
    with pytest.raises(ValueError, match="5 levels need 2048 and 1024"):
        HybridDemucsConfig(bands=1024)
