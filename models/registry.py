"""Every network that can be built, imported or exported, as data.

An entry has a network's name, configuration and metadata; nothing is built until `build` is called.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from torch import nn

from models.basicvsr import BasicVsr, BasicVsrConfig
from models.demucs import Demucs, DemucsConfig
from models.hybrid_demucs import HybridDemucs, HybridDemucsConfig
from models.light_vsr import LightVsr, LightVsrConfig
from models.published import BASICVSR, OWN_NAMES, REALBASICVSR, RVRT, Rule
from models.realbasicvsr import RealBasicVsr, RealBasicVsrConfig, side_multiple, unet_config
from models.rvrt import RVRT_CONFIGS, Rvrt, RvrtConfig
from models.sr_unet import SrUnet, SrUnetConfig

NON_COMMERCIAL = "CC-BY-NC-4.0"
UNKNOWN = "unknown"


class Task(StrEnum):
    """The task of a network."""

    VIDEO_SUPER_RESOLUTION = "video-super-resolution"
    VIDEO_RESTORATION = "video-restoration"
    IMAGE_SUPER_RESOLUTION = "image-super-resolution"
    SPEECH_DENOISE = "speech-denoise"


class DuplicateNameError(ValueError):
    """Two entries with the same name."""


class UnknownNetworkError(KeyError):
    """No entry has that name."""

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True, slots=True)
class Window:
    """The input of an image network: frames, channels of a frame, and the multiple of its sides."""

    frames: int = 1
    channels: int = 3
    side_multiple: int = 1
    scale: int = 1


@dataclass(frozen=True, slots=True)
class Published:
    """Published checkpoints of a network: their rename table and licence.

    They are never shipped; users import their own copies. `optional`: parts that they lack.
    """

    table: tuple[Rule, ...]
    licence: str
    optional: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One network."""

    name: str
    task: Task
    paper: str
    build: Callable[[], nn.Module]
    window: Window | None = None
    published: Published | None = None


class Registry:
    """Entries by name."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries: dict[str, Entry] = {}
        self.add(*entries)

    def add(self, *entries: Entry) -> None:
        """Add entries, all or none.

        Raises:
            DuplicateNameError: A name is taken; the registry is unchanged.
        """
        known = dict(self._entries)
        for entry in entries:
            if entry.name in known:
                raise DuplicateNameError(f"a network named {entry.name} is already registered; choose another name")
            known[entry.name] = entry
        self._entries = known

    def find(self, name: str) -> Entry:
        """Return the entry of that name.

        Raises:
            UnknownNetworkError: There is none.
        """
        try:
            return self._entries[name]
        except KeyError:
            raise UnknownNetworkError(f"no network named {name}; there are: {', '.join(self._entries)}") from None

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)


PAPERS = {
    "rvrt": "Recurrent Video Restoration Transformer with Guided Deformable Attention (arXiv 2206.02146)",
    "basicvsr": "BasicVSR: The Search for Essential Components in Video Super-Resolution and Beyond (arXiv 2012.02181)",
    "realbasicvsr": "Investigating Tradeoffs in Real-World Video Super-Resolution (arXiv 2111.12704)",
    "unet": "U-Net: Convolutional Networks for Biomedical Image Segmentation (arXiv 1505.04597)",
    "demucs": "Real Time Speech Enhancement in the Waveform Domain (arXiv 2006.12847)",
    "hybrid_demucs": "Hybrid Spectrogram and Waveform Source Separation (arXiv 2111.03600)",
    "espcn": "Real-Time Single Image and Video Super-Resolution (arXiv 1609.05158)",
}


def _rvrt(name: str, config: RvrtConfig) -> Entry:
    return Entry(
        name,
        Task.VIDEO_SUPER_RESOLUTION if config.scale == 4 else Task.VIDEO_RESTORATION,
        PAPERS["rvrt"],
        lambda: Rvrt(config),
        Window(4, config.input_channels, config.side_multiple, config.scale),
        Published(RVRT, NON_COMMERCIAL, ("refinement.",)),
    )


def _cleaned(name: str, config: RealBasicVsrConfig, published: Published | None = None) -> Entry:
    same_size = config.cleaning.kind == "unet"
    return Entry(
        name,
        Task.VIDEO_RESTORATION if same_size else Task.VIDEO_SUPER_RESOLUTION,
        PAPERS["realbasicvsr"],
        lambda: RealBasicVsr(config),
        Window(5, side_multiple=side_multiple(config.cleaning), scale=1 if same_size else 4),
        published,
    )


def _light(name: str, config: LightVsrConfig) -> Entry:
    return Entry(
        name,
        Task.VIDEO_SUPER_RESOLUTION if config.scale > 1 else Task.VIDEO_RESTORATION,
        f"{PAPERS['basicvsr']}; {PAPERS['espcn']}",
        lambda: LightVsr(config),
    )


REGISTRY = Registry(
    (
        *(_rvrt(f"rvrt-{name[:3]}", config) for name, config in RVRT_CONFIGS.items() if name[0] == "0"),
        *(
            _rvrt(f"residual-rvrt-{name[:3]}", replace(config, refinement=True))
            for name, config in RVRT_CONFIGS.items()
            if name[0] == "0"
        ),
        *(_rvrt(f"residual-rvrt-{name}", RVRT_CONFIGS[name]) for name in ("small", "tiny")),
        Entry(
            "basicvsr",
            Task.VIDEO_SUPER_RESOLUTION,
            PAPERS["basicvsr"],
            lambda: BasicVsr(BasicVsrConfig()),
            Window(5, scale=4),
            Published(BASICVSR, UNKNOWN),
        ),
        _cleaned("realbasicvsr", RealBasicVsrConfig(), Published(REALBASICVSR, UNKNOWN)),
        *(
            _cleaned(f"unet-{levels}lev-{blocks}res-{'ws' if skip else 'wos'}", unet_config(levels, blocks, skip=skip))
            for levels in (2, 3, 4)
            for blocks in (1, 2)
            for skip in (True, False)
        ),
        Entry(
            "sr-unet-x2",
            Task.IMAGE_SUPER_RESOLUTION,
            PAPERS["unet"],
            lambda: SrUnet(SrUnetConfig()),
            Window(1, side_multiple=SrUnetConfig().side_multiple, scale=2),
        ),
        _light("light-x4", LightVsrConfig(scale=4)),
        _light("light-x2", LightVsrConfig(scale=2, grid=2)),
        *(
            Entry(
                f"demucs-{hidden}",
                Task.SPEECH_DENOISE,
                PAPERS["demucs"],
                lambda hidden=hidden: Demucs(DemucsConfig(hidden=hidden), normalize=False),
                published=Published(OWN_NAMES, NON_COMMERCIAL),
            )
            for hidden in (48, 64)
        ),
        Entry(
            "hybrid-demucs",
            Task.SPEECH_DENOISE,
            PAPERS["hybrid_demucs"],
            lambda: HybridDemucs(HybridDemucsConfig()),
        ),
    )
)
