import pytest

from runtime.errors import OptionError
from runtime.options import AudioMode, Codec, EnhanceOptions
from runtime.presets import PRESETS, choose_scale, find_preset, resolve_preset

UPSCALE = PRESETS["upscale"]


@pytest.mark.parametrize(
    ("height", "width", "scale"),
    [
        (1, 1, 4),
        (180, 320, 4),
        (540, 960, 4),
        (541, 960, 2),
        (540, 1290, 2),
        (720, 1280, 2),
        (1080, 1920, 2),
        (1088, 1920, 1),
        (1920, 1080, 1),
        (2160, 3840, 1),
        (4320, 7680, 1),
    ],
)
def test_auto_takes_the_largest_scale_that_fits_4k(height, width, scale):
    assert choose_scale(height, width, UPSCALE).scale == scale


@pytest.mark.parametrize("preset", [p for p in PRESETS.values() if not p.copies_video])
def test_auto_never_makes_more_than_2160_lines(preset):
    for height in range(1, 2161):
        assert height * choose_scale(height, height, preset).scale <= 2160


def test_auto_keeps_to_the_limit_of_the_preset():
    choice = choose_scale(180, 320, PRESETS["surveillance"])

    assert choice.scale == 2
    assert choice.reason == "320x180: x2 is the maximum of preset surveillance"


def test_auto_reports_which_size_would_have_been_too_large():
    reason = choose_scale(720, 1280, UPSCALE).reason

    assert reason == "1280x720: x4 would be 5120x2880, over the automatic limit of 4096x2160"


def test_what_an_option_leaves_open_the_preset_decides():
    plan = resolve_preset(EnhanceOptions(preset="surveillance"))

    assert (plan.codec, plan.crf) == (Codec.HEVC, 22)
    assert (plan.scale, plan.audio, plan.strength) == ("auto", AudioMode.SPEECH, 1.0)


def test_options_win_over_the_preset():
    options = EnhanceOptions(preset="archive", scale=4, audio=AudioMode.SPEECH, strength=0.0, codec=Codec.AV1, crf=0)

    plan = resolve_preset(options)

    assert (plan.scale, plan.audio, plan.strength) == (4, AudioMode.SPEECH, 0.0)
    assert (plan.codec, plan.crf) == (Codec.AV1, 0)


def test_the_crf_of_a_preset_is_for_its_own_codec_only():
    assert resolve_preset(EnhanceOptions()).crf == 18
    assert resolve_preset(EnhanceOptions(codec=Codec.AV1)).crf is None


def test_sound_only_copies_the_video():
    plan = resolve_preset(EnhanceOptions(preset="sound-only"))

    assert (plan.scale, plan.codec, plan.crf) == (1, None, None)
    assert plan.preset.copies_video


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(OptionError, match="no preset named 'x'; there are: upscale, restore"):
        find_preset("x")


def test_every_preset_stands_in_the_readme():
    from pathlib import Path

    text = (Path(__file__).parents[2] / "README.md").read_text()

    for name in PRESETS:
        assert f"| `{name}`" in text
