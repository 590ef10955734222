"""Batches are a function of (seed, epoch, batch): whatever came before, from any number on, with any workers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from data_support import epoch, equal, image_folder, joined, opened
from sklearn.datasets import load_digits
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from netspec.runtime.errors import RunError

DIGITS = """
    source: Digits
    split: {train: 0.8, val: 0.1, test: 0.1, stratify: label}
    batch_size: 64
"""
AUGMENTED = """
    source: Digits
    split: {train: 0.2, val: 0.1}
    train: {transforms: [{type: RandomAffine, degrees: 10, translate: [0.1, 0.1]}, {type: GaussianNoise, sigma: 0.05}]}
    batch_size: 50
"""


def folder_spec(root: Path, cache: str, workers: int | str) -> str:
    return f"""
    train:
      source: {{type: ImageFolder, root: {root}}}
      transforms: [{{type: Resize, size: [12, 12]}}, {{type: RandomCrop, size: 8}}, RandomHorizontalFlip]
    batch_size: 4
    cache: {cache}
    workers: {workers}
    """


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_folder(tmp_path_factory.mktemp("images"), {"left": 7, "right": 6})


@pytest.mark.parametrize("text", [DIGITS, AUGMENTED], ids=["resident", "augmented"])
def test_an_epoch_resumed_at_a_batch_gives_the_same_remaining_batches(text: str) -> None:
    whole = epoch(opened(text).splits["train"], 3)
    fresh = opened(text)
    assert equal(epoch(fresh.splits["train"], 3, start=2), whole[2:])
    assert epoch(fresh.splits["train"], 3, start=len(whole)) == []


def test_what_was_drawn_before_does_not_matter() -> None:
    straight, wandering = opened(AUGMENTED), opened(AUGMENTED)
    torch.rand(100)
    epoch(wandering.splits["val"])
    epoch(wandering.splits["train"], 5)
    next(wandering.splits["train"].batches(2))  # an iterator that is left behind
    assert equal(epoch(wandering.splits["train"], 1), epoch(straight.splits["train"], 1))


def test_epochs_and_seeds_differ_in_order_and_augmentation() -> None:
    stream = opened(AUGMENTED).splits["train"]
    first, second = epoch(stream, 0), epoch(stream, 1)
    other = epoch(opened(AUGMENTED, seed=1).splits["train"], 0)
    labels = [joined(batches, "label") for batches in (first, second, other)]
    assert not torch.equal(labels[0], labels[1])
    assert not torch.equal(labels[0], labels[2])
    # The same pictures in each epoch, each altered anew: no picture's sum comes again.
    sums = [set(joined(batches, "image").flatten(1).sum(1).tolist()) for batches in (first, second, other)]
    assert not sums[0] & sums[1]
    assert not sums[0] & sums[2]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("cache", ["true", "false"])
def test_workers_change_nothing(folder: Path, cache: str, workers: int) -> None:
    here = opened(folder_spec(folder, cache, 0)).splits["train"]
    data = opened(folder_spec(folder, cache, workers))
    try:
        ahead = data.splits["train"]
        for number in (0, 1):
            assert equal(epoch(ahead, number), epoch(here, number))
        next(ahead.batches(4))  # stopped in the middle, with batches under way
        assert equal(epoch(ahead, 2, start=1), epoch(here, 2, start=1))
    finally:
        data.close()


def test_cached_and_decoded_anew_are_equal(folder: Path) -> None:
    kept, anew = (opened(folder_spec(folder, cache, 0)).splits["train"] for cache in ("true", "false"))
    assert equal(epoch(kept), epoch(anew))


@pytest.mark.parametrize("workers", [0, 1])
def test_the_global_generators_are_left_alone(folder: Path, workers: int) -> None:
    import random

    torch.manual_seed(5)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # type: ignore[index]
    data = opened(folder_spec(folder, "false", workers))
    epoch(data.splits["train"])
    next(data.splits["train"].batches(1))
    data.close()
    mixed = opened("source: Digits\nbatch_transforms: [MixUp]")
    epoch(mixed.splits["train"])
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    assert (before[2] == np.random.get_state()[1]).all()  # type: ignore[index]


def test_each_sample_is_altered_by_its_own_number(tmp_path: Path) -> None:
    """Copies of one picture differ, and each is what it is in any company."""
    path = tmp_path / "copies.npz"
    picture = torch.rand(1, 9, 9, generator=torch.Generator().manual_seed(0)).numpy()
    np.savez(path, image=np.stack([picture] * 12), number=np.arange(12))
    text = f"source: {{type: NumPy, path: {path}}}\ntransforms: [{{type: RandomAffine, degrees: 90}}]\nbatch_size: "
    small, large = (epoch(opened(text + size).splits["train"], 2) for size in ("3", "12"))
    assert len(torch.unique(large[0]["image"], dim=0)) == 12
    assert torch.equal(joined(small, "number"), large[0]["number"])
    assert torch.equal(joined(small, "image"), large[0]["image"])


def test_batch_transforms_are_a_function_of_the_batch() -> None:
    text = "source: Digits\nbatch_size: 100\nbatch_transforms: [CutMix]"
    whole = epoch(opened(text).splits["train"], 1)
    assert whole[0]["label"].shape == (100, 10)
    assert whole[0]["label"].sum(1).allclose(torch.ones(100))
    assert equal(epoch(opened(text).splits["train"], 1, start=7), whole[7:])
    shares = [float(batch["label"].max(1).values.min()) for batch in whole]
    assert len(set(shares)) > 4, "batches are mixed in proportions of their own"
    assert not torch.equal(whole[0]["label"], epoch(opened(text).splits["train"], 2)[0]["label"])


def test_every_sample_once_an_epoch_and_the_last_batch_partial() -> None:
    data = opened(DIGITS)
    train = data.splits["train"]
    assert [train.size, train.batches_per_epoch] == [1438, 23]
    batches = epoch(train)
    assert [len(batch["label"]) for batch in batches] == [64] * 22 + [30]
    everything = torch.cat([joined(epoch(stream), "image").flatten(1) for stream in data.splits.values()])
    assert sorted(everything.tolist()) == sorted((torch.tensor(load_digits().data) / 16).tolist())
    assert not equal(
        batches,
        epoch(opened(DIGITS.replace("batch_size", "sampler: SequentialSampler\n    batch_size")).splits["train"]),
    )


def test_evaluation_keeps_the_source_order_and_every_sample() -> None:
    held_out = opened("source: Digits\nsplit: {train: 0.5, test: 0.5}").splits["test"]
    first, second = epoch(held_out, 0), epoch(held_out, 1)
    assert equal(first, second)
    images = joined(first, "image").mul(16).flatten(1)
    everything = {tuple(row): i for i, row in enumerate(torch.tensor(load_digits().data).tolist())}
    places = [everything[tuple(row)] for row in images.tolist()]
    assert places == sorted(places)
    assert len(places) == held_out.size == 1797 - 899


def test_drop_last_leaves_out_what_fills_no_batch() -> None:
    stream = opened("source: Digits\nbatch_size: 64\ndrop_last: true").splits["train"]
    assert stream.batches_per_epoch == 28
    assert {len(batch["label"]) for batch in epoch(stream)} == {64}
    with pytest.raises(RunError, match="no whole batch"):
        opened("source: Iris\nbatch_size: 200\ndrop_last: true")


def test_a_model_that_writes_into_its_input_does_not_change_the_data() -> None:
    data = opened(DIGITS)
    for name in ("train", "val"):
        before = epoch(opened(DIGITS).splits[name])  # of data of their own: a view would change along
        for batch in data.splits[name].batches(0):
            batch["image"].zero_()
        assert equal(epoch(data.splits[name]), before)


def test_a_model_that_learns_what_to_add_to_its_input_does_not_tie_batches_together() -> None:
    """For autograd each batch is a tensor of its own, though several are gathered at once."""
    factor = torch.ones(1, requires_grad=True)
    with torch.no_grad():
        batches = epoch(opened(DIGITS).splits["train"])
    for batch in batches[:3]:
        batch["image"].mul_(factor).sum().backward()  # type: ignore[no-untyped-call]
    assert factor.grad is not None


def test_fields_and_batch_size_can_be_chosen_by_the_caller() -> None:
    data = opened("source: BreastCancer\nbatch_size: 8", batch_size=16, fields=["features", "target"])
    batch = next(data.splits["train"].batches(0))
    assert {name: tuple(value.shape) for name, value in batch.items()} == {"features": (16, 30), "target": (16, 1)}
    assert list(data.splits["train"].fields) == ["features", "target"]


def test_only_the_splits_asked_for_are_opened(tmp_path: Path, folder: Path) -> None:
    absent = tmp_path / "none"
    text = f"""
    train: {{source: {{type: ImageFolder, root: {folder}}}}}
    test: {{source: {{type: ImageFolder, root: {absent}}}}}
    """
    assert list(opened(text, splits=["train"]).splits) == ["train"]
    with pytest.raises(RunError, match="NS920"):
        opened(text)


def test_a_split_of_its_own_size_reports_the_fields_of_its_batches(folder: Path) -> None:
    stream = opened(folder_spec(folder, "auto", 0)).splits["train"]
    assert stream.fields["image"].shape == (3, 8, 8)
    assert stream.fields["image"].dtype == "float32"
    assert stream.classes == ("left", "right")
    batch = epoch(stream)[0]
    assert batch["image"].shape == (4, 3, 8, 8)
    assert 0 <= batch["image"].min() < batch["image"].max() <= 1


def test_samplers_draw_as_torchs_own() -> None:
    def labels(text: str, number: int = 0) -> Tensor:
        return joined(epoch(opened(text).splits["train"], number), "label")

    drawn = labels("source: Iris\nsampler: {type: RandomSampler, replacement: true, num_samples: 1000}")
    assert len(drawn) == 1000
    assert len(labels("source: Iris\nsampler: {type: RandomSampler, num_samples: 400}")) == 400
    assert torch.equal(labels("source: Iris\nsampler: SequentialSampler"), torch.arange(3).repeat_interleave(50))
    weighted = labels(
        "source: Iris\nsampler: {type: WeightedRandomSampler, weights: [0, 1, 3], num_samples: 4000}"
    ).bincount(minlength=3)
    assert weighted[0] == 0
    assert 0.2 < weighted[1] / weighted.sum() < 0.3
    # As with torch's RandomSampler, a draw longer than the data goes round it whole first.
    rounds = labels("source: Iris\nsampler: {type: RandomSampler, num_samples: 400}")
    assert rounds[:300].bincount().tolist() == [100, 100, 100]


def test_balance_draws_every_class_as_often() -> None:
    stream = opened("source: Wine\nbalance: label").splits["train"]
    counts = sum(joined(epoch(stream, number), "label").bincount(minlength=3) for number in range(40))
    assert isinstance(counts, Tensor)
    shares = counts / counts.sum()
    assert (shares - 1 / 3).abs().max() < 0.03, shares  # the data has 59, 71 and 48


def test_a_stratified_cut_holds_the_classes_in_proportion() -> None:
    data = opened(DIGITS)
    whole = joined(epoch(opened("source: Digits").splits["train"]), "label").bincount()
    assert [data.splits[name].size for name in ("train", "val", "test")] == [1438, 179, 180]
    for name, share in (("train", 0.8), ("val", 0.1), ("test", 0.1)):
        counts = joined(epoch(data.splits[name]), "label").bincount()
        assert (counts - whole * share).abs().max() <= 1.5, (name, counts)


def test_a_cut_depends_on_its_own_seed_alone() -> None:
    def test_images(seed: int, run_seed: int) -> Tensor:
        text = f"source: Digits\nsplit: {{train: 0.8, test: 0.2, seed: {seed}}}"
        return joined(epoch(opened(text, seed=run_seed).splits["test"]), "image")

    assert torch.equal(test_images(0, 0), test_images(0, 9))
    assert not torch.equal(test_images(0, 0), test_images(1, 0))
    data = opened("source: Digits\nsplit: {train: 0.8, test: 0.2}")
    rows = [
        {tuple(row) for row in joined(epoch(data.splits[name]), "image").flatten(1).tolist()}
        for name in ("train", "test")
    ]
    assert len(rows[0] | rows[1]) == len(rows[0]) + len(rows[1]), "train and test share samples"


def test_batches_hold_what_a_hand_written_loader_holds() -> None:
    found = load_digits()
    images, labels = torch.tensor(found.images, dtype=torch.float32).unsqueeze(1) / 16, torch.tensor(found.target)
    by_hand = list(DataLoader(TensorDataset(images, labels), batch_size=100))
    ours = epoch(opened("source: Digits\nbatch_size: 100\nsampler: SequentialSampler").splits["train"])
    for (image, label), batch in zip(by_hand, ours, strict=True):
        assert torch.equal(image, batch["image"])
        assert torch.equal(label, batch["label"])


def test_classes_that_are_asked_for_and_not_there_are_told(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, x=np.zeros((4, 2)))
    source = f"source: {{type: NumPy, path: {path}}}"
    with pytest.raises(RunError, match="no classes `label` to weigh by; its fields are x"):
        epoch(opened(f"{source}\nbalance: label").splits["train"])
    with pytest.raises(RunError, match="`x` does not hold one class index a sample, to stratify by"):
        opened(f"{source}\nsplit: {{train: 0.5, stratify: x}}")
    with pytest.raises(RunError, match="`weights` has 2 values, and the data 3 classes"):
        epoch(opened("source: Iris\nsampler: {type: WeightedRandomSampler, weights: [1, 2]}").splits["train"])
    with pytest.raises(RunError, match="`val` gets none of the 150 samples"):
        opened("source: Iris\nsplit: {train: 0.9, val: 0.001}")


def test_little_memory_changes_where_the_work_is_done_and_no_value(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaled = "transforms: [{type: Normalize, mean: [0.3], std: [0.4]}]\nsampler: SequentialSampler"
    texts = (f"source: Digits\n{scaled}", f"source: {{type: ImageFolder, root: {folder}}}\ntransforms: [Grayscale]")
    plenty = [epoch(opened(text).splits["train"], 1) for text in texts]
    monkeypatch.setattr("netspec.runtime.data.storage.free_bytes", lambda device: 100)
    scarce = [opened(text).splits["train"] for text in texts]
    for stream, expected in zip(scarce, plenty, strict=True):
        assert equal(epoch(stream, 1), expected)


@pytest.mark.long
def test_what_goes_to_a_worker_can_be_sent_there(folder: Path) -> None:
    """Python from 3.14 on starts workers that share nothing with their parent."""
    import torch.multiprocessing

    before = torch.multiprocessing.get_start_method()
    torch.multiprocessing.set_start_method("forkserver", force=True)
    data = opened(folder_spec(folder, "true", 1))
    try:
        assert equal(epoch(data.splits["train"]), epoch(opened(folder_spec(folder, "true", 0)).splits["train"]))
    finally:
        data.close()
        torch.multiprocessing.set_start_method(before, force=True)
