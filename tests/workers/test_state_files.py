"""Tensors on disk: what comes back, and what is refused."""

from __future__ import annotations

import re

import pytest
import torch

from scar_ray.workers import state_files
from scar_ray.workers.state_files import read_tensors, write_tensors

TENSORS = {
    "a.weight": torch.arange(6.0).reshape(2, 3),
    "a.bias": torch.tensor([1.5, -2.5], dtype=torch.bfloat16),
    "b": torch.tensor(3.0),
}


def write(folder, tensors=TENSORS, **meta) -> None:
    write_tensors(folder, tensors.items(), {"updates": 7, **meta}, write=True)


def test_tensors_come_back_as_they_were(tmp_path):
    write(tmp_path / "state")
    tensors, meta = read_tensors(tmp_path / "state")
    assert meta == {"shards": ["state-00000.safetensors"], "updates": 7}
    assert set(tensors) == set(TENSORS)
    assert len(tensors) == 3
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)


def test_many_tensors_go_to_several_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(state_files, "SHARD_BYTES", 20)
    write(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "index.json",
        "state-00000.safetensors",
        "state-00001.safetensors",
    ]
    tensors, _ = read_tensors(tmp_path)
    assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS.items())


def test_a_view_is_written_without_the_tensor_behind_it(tmp_path):
    whole = torch.zeros(1000, 10)
    write(tmp_path, {"row": whole[3], "column": whole[:5, 0]})
    assert (tmp_path / "state-00000.safetensors").stat().st_size < 1000
    tensors, _ = read_tensors(tmp_path)
    assert tensors["column"].shape == (5,)


def test_a_rank_that_does_not_write_takes_all_tensors_and_leaves_nothing(tmp_path):
    taken = iter(TENSORS.items())
    write_tensors(tmp_path / "state", taken, {}, write=False)
    assert next(taken, None) is None
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("index.json", b'{"shards": ["state-'),
        ("index.json", b"\xff\xfe"),
        ("index.json", b"{}"),
        ("index.json", b"[]"),
        ("index.json", None),
        ("state-00000.safetensors", b""),
        ("state-00000.safetensors", b"not safetensors"),
        ("state-00000.safetensors", None),
    ],
)
def test_a_damaged_file_is_named(tmp_path, file, content):
    write(tmp_path)
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_bytes(content)
    start = re.escape(f"checkpoint file {tmp_path / file}: cannot be read (")
    with pytest.raises(ValueError, match=rf"^{start}.*\); resume from an older checkpoint$") as error:
        read_tensors(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("lost", [1, 8, 20])
def test_a_truncated_shard_is_found_before_anything_is_read(tmp_path, lost):
    write(tmp_path)
    file = tmp_path / "state-00000.safetensors"
    file.write_bytes(file.read_bytes()[:-lost])
    with pytest.raises(ValueError, match=r"state-00000\.safetensors: cannot be read \(SafetensorError: "):
        read_tensors(tmp_path)


@pytest.mark.parametrize(
    ("shapes", "problem"),
    [
        ({"a.weight": (2, 3), "b": ()}, "a.bias is no part of this learner"),
        ({"a.weight": (2, 3), "a.bias": (2,), "b": (), "c": (1,)}, "c is missing"),
        ({"a.weight": (3, 2), "a.bias": (2,), "b": ()}, "a.weight has shape (2, 3) instead of (3, 2)"),
        ({"a.weight": (2, 3), "a.bias": (2,), "b": (1,)}, "b has shape () instead of (1,)"),
    ],
)
def test_tensors_of_another_learner_are_refused(tmp_path, shapes, problem):
    write(tmp_path)
    tensors, _ = read_tensors(tmp_path)
    with pytest.raises(ValueError, match=r"^checkpoint ") as error:
        tensors.check_shapes(shapes)
    assert str(error.value) == (
        f"checkpoint {tmp_path}: {problem}; it was written with another model, critic or LoRA setting"
    )


def test_tensors_of_the_learner_are_accepted(tmp_path):
    write(tmp_path)
    tensors, _ = read_tensors(tmp_path)
    tensors.check_shapes({"a.weight": (2, 3), "a.bias": (2,), "b": ()})
