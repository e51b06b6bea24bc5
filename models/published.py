"""Loads published checkpoints into our networks: rename tables, and strict loading with them.

A table is an ordered list of rules; the first rule that matches a name applies. Nothing is dropped silently: a name
without a rule is an error, and so is a parameter that is not filled.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn

Change = Callable[[Tensor], Tensor]


class CheckpointError(ValueError):
    """A checkpoint does not belong to the network."""


@dataclass(frozen=True, slots=True)
class Rule:
    r"""One line of a table.

    `pattern` is a regular expression that the whole published name must match, `name` ours, with the pattern's groups
    as `\1`; None for tensors that follow from the configuration. `change` is applied to the tensor.
    """

    pattern: str
    name: str | None
    change: Change | None = None


def _flatten_time(weight: Tensor) -> Tensor:
    """Squeeze an (out, in, 1, k, k) kernel to (out, in, k, k)."""
    return weight.squeeze(2) if weight.ndim == 5 else weight


def _swap_pairs(weight: Tensor) -> Tensor:
    """Swap each pair of output channels: published offsets (y, x) become (x, y), like our flows."""
    return _flatten_time(weight).unflatten(0, (-1, 2)).flip(1).flatten(0, 1)


def _under(prefix: str, ours: str, table: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """Return a table for a network that is part of another one."""
    return tuple(
        replace(rule, pattern=re.escape(prefix) + rule.pattern, name=rule.name and ours + rule.name) for rule in table
    )


OWN_NAMES = (Rule(r"(.*)", r"\1"),)

SPYNET = (
    Rule(r"spynet\.mean", "flow.mean"),
    Rule(r"spynet\.std", "flow.deviation"),
    # RVRT's names count the activations between the convolutions of a level, as ours do; mmediting's do not.
    Rule(r"spynet\.basic_module\.(\d)\.basic_module\.(\d)\.(weight|bias)", r"flow.levels.\1.\2.\3"),
    *(
        Rule(
            rf"spynet\.basic_module\.(\d)\.basic_module\.{index}\.conv\.(weight|bias)",
            rf"flow.levels.\1.{2 * index}.\2",
        )
        for index in range(5)
    ),
)

BASICVSR = (
    *SPYNET,
    Rule(r"(backward|forward)_resblocks\.main\.0\.(weight|bias)", r"\1_branch.first.\2"),
    Rule(r"(backward|forward)_resblocks\.main\.2\.(\d+\.conv[12]\.(weight|bias))", r"\1_branch.body.\2"),
    Rule(r"(upsample[12])\.upsample_conv\.(weight|bias)", r"reconstruction.\1.\2"),
    Rule(r"((fusion|conv_hr|conv_last)\.(weight|bias))", r"reconstruction.\1"),
)

REALBASICVSR = (
    Rule(r"image_cleaning\.0\.main\.0\.(weight|bias)", r"cleaning.features.first.\1"),
    Rule(r"image_cleaning\.0\.main\.2\.(\d+\.conv[12]\.(weight|bias))", r"cleaning.features.body.\1"),
    Rule(r"image_cleaning\.1\.(weight|bias)", r"cleaning.last.\1"),
    *_under("basicvsr.", "vsr.", BASICVSR),
)

TRANSFORMER_GROUP = (
    Rule(r"main\.1\.(weight|bias)", r"conv.\1", _flatten_time),
    Rule(r"main\.3\.(weight|bias)", r"norm_in.\1"),
    Rule(r"main\.5\.(\d+)\.linear\.(weight|bias)", r"blocks.\1.linear.\2"),
    Rule(r"main\.5\.\d+\.residual_group\.blocks\.\d+\.attn\.relative_position_index", None),
    Rule(
        r"main\.5\.(\d+)\.residual_group\.blocks\.(\d+)\.attn\.relative_position_bias_table",
        r"blocks.\1.layers.\2.attention.bias_table",
    ),
    Rule(
        r"main\.5\.(\d+)\.residual_group\.blocks\.(\d+)\.attn\.qkv_self\.(weight|bias)",
        r"blocks.\1.layers.\2.attention.qkv.\3",
    ),
    Rule(
        r"main\.5\.(\d+)\.residual_group\.blocks\.(\d+)\.attn\.proj\.(weight|bias)",
        r"blocks.\1.layers.\2.attention.project.\3",
    ),
    Rule(
        r"main\.5\.(\d+)\.residual_group\.blocks\.(\d+)\.((norm[12]|mlp\.fc[12])\.(weight|bias))",
        r"blocks.\1.layers.\2.\3",
    ),
    Rule(r"main\.7\.(weight|bias)", r"norm_out.\1"),
)

ALIGNMENT = (
    Rule(r"proj_q\.1\.(weight|bias)", r"query.\1"),
    Rule(r"proj_k\.1\.(weight|bias)", r"key.\1"),
    Rule(r"proj_v\.1\.(weight|bias)", r"value.\1"),
    Rule(r"proj\.1\.(weight|bias)", r"project.\1"),
    Rule(r"mlp\.1\.(fc[12]\.(weight|bias))", r"mlp.\1"),
    Rule(r"conv_offset\.10\.(weight|bias)", r"offsets.10.\1", _swap_pairs),
    Rule(r"conv_offset\.([02468])\.(weight|bias)", r"offsets.\1.\2", _flatten_time),
)

BRANCHES = ("backward_1", "forward_1", "backward_2", "forward_2")

RVRT = (
    *SPYNET,
    *_under("feat_extract.6.", "extract.group.", TRANSFORMER_GROUP),
    *_under("feat_extract.", "extract.group.", TRANSFORMER_GROUP),
    Rule(r"feat_extract\.1\.(weight|bias)", r"extract.shrink.0.\1", _flatten_time),
    Rule(r"feat_extract\.3\.(weight|bias)", r"extract.shrink.2.\1", _flatten_time),
    *(rule for name in BRANCHES for rule in _under(f"backbone.{name}.", f"refine.{name}.", TRANSFORMER_GROUP)),
    *(rule for name in BRANCHES for rule in _under(f"deform_align.{name}.", f"align.{name}.", ALIGNMENT)),
    *_under("reconstruction.", "reconstruct.", TRANSFORMER_GROUP),
    Rule(r"conv_before_upsampler\.0\.(weight|bias)", r"before_upsampler.\1", _flatten_time),
    Rule(r"refinement\.refinement\.0\.(weight|bias)", r"refinement.convolutions.0.\1"),
    Rule(r"refinement\.refinement\.2\.(weight|bias)", r"refinement.convolutions.1.\1"),
    Rule(r"refinement\.refinement\.4\.(weight|bias)", r"refinement.convolutions.2.\1"),
    Rule(r"upsampler\.0\.(weight|bias)", r"upsampler.stage1.\1", _flatten_time),
    Rule(r"upsampler\.5\.(weight|bias)", r"upsampler.stage2.\1", _flatten_time),
    Rule(r"upsampler\.10\.(weight|bias)", r"upsampler.smooth.\1", _flatten_time),
    Rule(r"conv_last\.(weight|bias)", r"last.\1", _flatten_time),
)


def rename(state: Mapping[str, Tensor], table: tuple[Rule, ...]) -> dict[str, Tensor]:
    """Return a checkpoint's tensors under our names.

    Raises:
        CheckpointError: A name matches no rule, or two names become the same.
    """
    compiled = [(re.compile(rule.pattern), rule) for rule in table]
    renamed: dict[str, Tensor] = {}
    for published, tensor in state.items():
        for pattern, rule in compiled:
            match = pattern.fullmatch(published)
            if match is None:
                continue
            if rule.name is not None:
                name = match.expand(rule.name)
                if name in renamed:
                    raise CheckpointError(f"two tensors of the checkpoint become {name}; the second is {published}")
                renamed[name] = rule.change(tensor) if rule.change else tensor
            break
        else:
            raise CheckpointError(f"got a tensor named {published}, which the network does not have")
    return renamed


def load_published(
    network: nn.Module, state: Mapping[str, Tensor], table: tuple[Rule, ...], *, optional: Collection[str] = ()
) -> None:
    """Load a checkpoint strictly.

    Args:
        network: Changed in place, or not at all.
        state: Tensors by their published names.
        table: The rename table.
        optional: Our parts (`"refinement."`) that a checkpoint may lack completely; they are then left unchanged.

    Raises:
        CheckpointError: A tensor is missing, unknown or of another shape.
    """
    renamed = rename(state, table)
    own = network.state_dict()
    for prefix in optional:
        if not any(name.startswith(prefix) for name in renamed):
            renamed |= {name: tensor for name, tensor in own.items() if name.startswith(prefix)}
    missing, unknown = sorted(own.keys() - renamed.keys()), sorted(renamed.keys() - own.keys())
    if missing or unknown:
        raise CheckpointError(
            f"the checkpoint belongs to another network: {len(missing)} tensors missing ({_some(missing)}), "
            f"{len(unknown)} unknown ({_some(unknown)})"
        )
    other = [name for name, tensor in renamed.items() if tensor.shape != own[name].shape]
    if other:
        name = other[0]
        raise CheckpointError(
            f"the checkpoint has another size: {name} is {tuple(renamed[name].shape)}, "
            f"expected {tuple(own[name].shape)} ({len(other)} in all)"
        )
    network.load_state_dict(renamed, strict=True)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "") if names else "none"
