"""Training resumes where it stopped, reaches the same weights, and keeps the best."""

import math

import pytest
import torch

from training.loop import Recipe, learning_rate, load_fitting, read_log, train


class LineTask:
    """Learn y = 3 x from noisy points."""

    def __init__(self):
        torch.manual_seed(0)
        self.model = torch.nn.Linear(1, 1)
        self.stop_at = None
        self.seen = 0

    def batch(self, rng):
        if self.seen == self.stop_at:
            raise KeyboardInterrupt
        self.seen += 1
        x = torch.from_numpy(rng.standard_normal((8, 1))).float()
        return {"x": x, "y": 3 * x}

    def loss(self, batch):
        return (self.model(batch["x"]) - batch["y"]).square().mean(), {"twice": 2.0}

    def validate(self, model):
        return {"score": -abs(float(model.weight.detach()) - 3)}


def recipe(**changes):
    values = {
        "name": "line",
        "iterations": 120,
        "batch": 8,
        "learning_rate": 0.1,
        "warm_up": 5,
        "ema": 0.9,
        "checkpoint_every": 10,
        "validate_every": 40,
    }
    return Recipe(**(values | changes))


def weights(folder, name="last.pt"):
    return torch.load(folder / name, weights_only=True)


def test_a_line_is_learned_and_the_best_weights_are_kept(tmp_path):
    train(LineTask(), recipe(iterations=240), tmp_path)

    kept = weights(tmp_path, "best.pt")
    assert float(kept["ema"]["weight"]) == pytest.approx(3, abs=0.1)
    assert kept["recipe"]["name"] == "line"
    lines = list(read_log(tmp_path))
    assert [line["iteration"] for line in lines if "twice" in line] == [50, 100, 150, 200]
    assert any("valid_score" in line for line in lines)


def test_a_run_that_was_stopped_ends_with_the_weights_of_one_that_was_not(tmp_path):
    train(LineTask(), recipe(), tmp_path / "whole")
    broken = LineTask()
    broken.stop_at = 57

    with pytest.raises(KeyboardInterrupt):
        train(broken, recipe(), tmp_path / "broken")
    assert weights(tmp_path / "broken")["iteration"] == 50
    train(LineTask(), recipe(), tmp_path / "broken")

    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert resumed["iteration"] == 120
    for name in ("model", "ema"):
        for key, value in whole[name].items():
            torch.testing.assert_close(resumed[name][key], value, rtol=0, atol=0)


def test_a_gradient_that_is_not_finite_changes_no_weight(tmp_path):
    task = LineTask()
    before = task.model.weight.detach().clone()
    task.loss = lambda batch: (task.model(batch["x"]).sum() * math.nan, {})

    train(task, recipe(iterations=3), tmp_path)

    torch.testing.assert_close(task.model.weight.detach(), before)


def test_the_rate_warms_up_and_falls_to_the_final_one():
    plan = recipe(final_learning_rate=0.01)

    rates = [learning_rate(plan, iteration) for iteration in range(120)]

    assert rates[0] == pytest.approx(0.02)
    assert max(rates) == pytest.approx(0.1)
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[-1] == pytest.approx(0.01, abs=1e-3)


def test_weights_that_fit_are_taken_and_the_others_named():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 3))
    given = {"0.weight": torch.full((2, 2), 7.0), "1.weight": torch.zeros(5, 5)}

    left = load_fitting(model, given)

    assert left == ["0.bias", "1.bias", "1.weight"]
    assert (model[0].weight == 7).all()


@pytest.mark.parametrize(
    ("task", "kind"), [({"scale": 2}, "video"), ({"network": "basicvsr"}, "window"), ({"hidden": 24}, "speech")]
)
def test_a_recipe_without_a_kind_is_recognised_by_its_task(task, kind):
    fields = {"name": "old", "iterations": 1, "batch": 1, "learning_rate": 1e-3, "task": task}

    assert Recipe.model_validate(fields).kind == kind
    assert Recipe.model_validate({**fields, "kind": "video"}).kind == "video"
