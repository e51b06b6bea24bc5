import pytest
import torch
from torch import nn

from models.published import CheckpointError, Rule, load_published, rename

TABLE = (Rule(r"old\.(weight|bias)", r"new.\1"), Rule("index", None))


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.new = nn.Linear(2, 3)
        self.extra = nn.Linear(1, 1)


def state(**others: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"old.weight": torch.ones(3, 2), "old.bias": torch.ones(3), "index": torch.zeros(4), **others}


def test_tensors_are_renamed_and_those_that_follow_are_left_out() -> None:
    assert set(rename(state(), TABLE)) == {"new.weight", "new.bias"}


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(CheckpointError, match="got a tensor named other, which the network does not have"):
        rename(state(other=torch.ones(1)), TABLE)


def test_two_names_for_one_tensor_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"two tensors of the checkpoint become new\.bias"):
        rename(state() | {"older": torch.ones(3)}, (*TABLE, Rule("older", "new.bias")))


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"old.weight": torch.ones(3, 2)}, r"1 tensors missing \(new.bias\)"),
        ({"old.weight": torch.ones(2, 2), "old.bias": torch.ones(3)}, r"new.weight is \(2, 2\), expected \(3, 2\)"),
    ],
)
def test_a_checkpoint_of_another_network_changes_nothing(broken: dict[str, torch.Tensor], message: str) -> None:
    network = Small()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(CheckpointError, match=message):
        load_published(network, broken, TABLE, optional=("extra.",))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_an_optional_part_stays_as_it_is() -> None:
    network = Small()
    before = network.extra.weight.clone()
    load_published(network, state(), TABLE, optional=("extra.",))
    assert torch.equal(network.extra.weight, before)
    assert (network.new.weight == 1).all()


def test_without_the_option_every_part_must_be_there() -> None:
    with pytest.raises(CheckpointError, match="2 tensors missing"):
        load_published(Small(), state(), TABLE)
