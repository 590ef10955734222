"""Sets of torchvision that can't be had here, in small files of their real layout: opened, indexed and batched.

PCAM is not among them: torchvision reads it with h5py, which netspec does without.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_support import epoch, opened, recipe
from PIL import Image
from torchvision import datasets
from torchvision.transforms import v2
from vision_support import noise, save, unfetched, write

from netspec.runtime.data.sources import load

SIZE = (20, 24)
SCENES = "SceneFlow/FlyingThings3D"


def picture(path: Path, seed: int = 0) -> None:
    save(path, *SIZE, 3, seed=seed)


def words16(path: Path, seed: int) -> None:
    """A grey PNG of 16 bits, as disparities are kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers = np.random.default_rng(seed).integers(1, 60000, SIZE).astype(np.uint16)
    Image.fromarray(numbers).save(path)


def flo(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).normal(size=(*SIZE, 2)).astype("<f4")
    path.write_bytes(b"PIEH" + np.array([SIZE[1], SIZE[0]], "<i4").tobytes() + values.tobytes())


def pfm(path: Path, seed: int, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).normal(size=(*SIZE, channels)).astype("<f4")
    kind = b"PF" if channels == 3 else b"Pf"
    path.write_bytes(kind + f"\n{SIZE[1]} {SIZE[0]} \n-1.0\n".encode() + values.tobytes())


def savemat(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    import_module("scipy.io").savemat(path, content)


def flowers(root: Path) -> None:
    folder = root / "flowers-102"
    for number in (1, 2, 3, 4):
        picture(folder / f"jpg/image_{number:05d}.jpg", number)
    savemat(folder / "imagelabels.mat", {"labels": np.array([[5, 102, 1, 7]])})
    savemat(
        folder / "setid.mat", {"trnid": np.array([[4, 2]]), "valid": np.array([[1, 3]]), "tstid": np.array([[3, 1]])}
    )


def cars(root: Path) -> None:
    folder = root / "stanford_cars"
    kind = [("bbox_x1", "u1"), ("class", "u1"), ("fname", "O")]
    rows = np.array([(1, 2, "00001.jpg"), (1, 1, "00002.jpg")], dtype=kind)
    savemat(folder / "devkit/cars_train_annos.mat", {"annotations": rows})
    savemat(folder / "devkit/cars_meta.mat", {"class_names": np.array(["AM General", "Acura"], dtype=object)})
    for number in (1, 2):
        picture(folder / f"cars_train/{number:05d}.jpg", number)


def faces(root: Path) -> None:
    folder = root / "lfw-py"
    write(folder / "lfw-names.txt", "Ann_B\t2\nCem_D\t1\n")
    write(folder / "peopleDevTrain.txt", "2\nCem_D\t1\nAnn_B\t2\n")
    write(folder / "pairsDevTrain.txt", "1\nAnn_B\t1\t2\nAnn_B\t2\tCem_D\t1\n")
    for seed, name in enumerate(("Ann_B/Ann_B_0001", "Ann_B/Ann_B_0002", "Cem_D/Cem_D_0001")):
        picture(folder / f"lfw_funneled/{name}.jpg", seed)


def places(root: Path) -> None:
    write(root / "categories_places365.txt", "/a/airfield 0\n/b/bar 1\n")
    write(root / "places365_train_standard.txt", "/a/airfield/1.jpg 0\n/b/bar/2.jpg 1\n")
    picture(root / "data_large_standard/a/airfield/1.jpg", 1)
    picture(root / "data_large_standard/b/bar/2.jpg", 2)


def wider(root: Path) -> None:
    folder = root / "widerface"
    for part in ("train", "val", "test"):
        (folder / f"WIDER_{part}").mkdir(parents=True)
    rest = "0 0 0 0 0 0"
    lines = ["0--Parade/a.jpg", "2", f"2 3 10 12 {rest}", f"5 5 8 6 {rest}", "0--Parade/b.jpg", "1", f"1 1 4 5 {rest}"]
    write(folder / "wider_face_split/wider_face_train_bbx_gt.txt", "\n".join(lines) + "\n")
    for seed, name in enumerate("ab"):
        picture(folder / f"WIDER_train/images/0--Parade/{name}.jpg", seed)


def boundaries(root: Path) -> None:
    sparse = import_module("scipy.sparse")
    write(root / "train.txt", "a\nb\n")
    for seed, name in enumerate("ab"):
        picture(root / f"img/{name}.jpg", seed)
        edges = np.empty((20, 1), dtype=object)
        for kind in range(20):
            edges[kind, 0] = sparse.csc_matrix((noise(*SIZE, seed=seed * 20 + kind) > 200).astype(float))
        mask = noise(*SIZE, seed=seed) % 21
        savemat(root / f"cls/{name}.mat", {"GTcls": {"Segmentation": mask, "Boundaries": edges}})


def city(root: Path) -> None:
    for seed, name in enumerate(("ulm/ulm_000_000", "aachen/aachen_000_001", "bonn/bonn_000_002")):
        picture(root / f"leftImg8bit/train/{name}_leftImg8bit.png", seed)
        save(root / f"gtFine/train/{name}_gtFine_labelIds.png", pixels=noise(*SIZE, seed=seed) % 34)


def sintel(root: Path) -> None:
    for seed, scene in enumerate(("market", "alley", "cave")):
        for frame in (1, 2):
            picture(root / f"Sintel/training/clean/{scene}/frame_{frame:04d}.png", 10 * seed + frame)
        flo(root / f"Sintel/training/flow/{scene}/frame_0001.flo", seed)


def chairs(root: Path) -> None:
    for number in (1, 2):
        picture(root / f"FlyingChairs/data/{number:05d}_img1.ppm", number)
        picture(root / f"FlyingChairs/data/{number:05d}_img2.ppm", number + 9)
        flo(root / f"FlyingChairs/data/{number:05d}_flow.flo", number)
    write(root / "FlyingChairs/FlyingChairs_train_val.txt", "1\n1\n")


def things(root: Path) -> None:
    folder = root / "FlyingThings3D"
    for frame in (6, 7, 8):
        picture(folder / f"frames_cleanpass/TRAIN/A/0000/left/{frame:04d}.png", frame)
        for way in ("into_future", "into_past"):
            pfm(folder / f"optical_flow/TRAIN/A/0000/{way}/left/{frame:04d}.pfm", frame, channels=3)


def hd1k(root: Path) -> None:
    for frame in range(3):
        picture(root / f"hd1k/hd1k_input/image_2/000000_{frame:04d}.png", frame)
        picture(root / f"hd1k/hd1k_flow_gt/flow_occ/000000_{frame:04d}.png", frame + 7)


Disparity = Callable[[Path, int], None]


def stereo(left: str, right: str, disparities: tuple[str, ...], kind: Disparity) -> Callable[[Path], None]:
    """Two scenes, `{}` in the paths, with what each has."""

    def make(root: Path) -> None:
        for seed, scene in enumerate(("one", "two")):
            picture(root / left.format(scene), seed)
            picture(root / right.format(scene), seed + 5)
            for place in disparities:
                kind(root / place.format(scene), seed)

    return make


def creates(root: Path) -> None:
    for part in ("shapenet", "reflective", "tree", "hole"):
        made = "CREStereo/" + part + "/{}_"
        stereo(f"{made}left.jpg", f"{made}right.jpg", (f"{made}left.disp.png", f"{made}right.disp.png"), words16)(root)


def falling(root: Path) -> None:
    made = "FallingThings/single/{}/kitchen/000001"
    ends = (f"{made}.left.depth.png", f"{made}.right.depth.png")
    stereo(f"{made}.left.jpg", f"{made}.right.jpg", ends, words16)(root)
    camera = {"camera_settings": [{"intrinsic_settings": {"fx": 768.2}}]}
    for scene in ("one", "two"):
        write(root / f"FallingThings/single/{scene}/kitchen/_camera_settings.json", json.dumps(camera))


def sintel_stereo(root: Path) -> None:
    made = "Sintel/training/{}/{}/frame_0001.png"
    for seed, scene in enumerate(("alley", "cave")):
        for place in ("final_left", "final_right", "disparities"):
            picture(root / made.format(place, scene), seed)
        for place in ("occlusions", "outofframe"):
            save(root / made.format(place, scene), pixels=(noise(*SIZE, seed=seed) > 200).astype(np.uint8) * 255)


def eth(root: Path) -> None:
    made = "ETH3D/two_view_training/{}/im"
    stereo(f"{made}0.png", f"{made}1.png", ("ETH3D/two_view_training_gt/{}/disp0GT.pfm",), pfm)(root)
    for scene in ("one", "two"):
        mask = (noise(*SIZE) > 100).astype(np.uint8) * 255
        save(root / f"ETH3D/two_view_training_gt/{scene}/mask0nocc.png", pixels=mask)


LAYOUTS: Mapping[str, tuple[Callable[[Path], None], str]] = {
    "Flowers102": (flowers, ""),
    "StanfordCars": (cars, ""),
    "LFWPeople": (faces, "split: train"),
    "LFWPairs": (faces, "split: train"),
    "Places365": (places, ""),
    "WIDERFace": (wider, ""),
    "SBDataset": (boundaries, "mode: segmentation"),
    "Cityscapes": (city, "target_type: semantic"),
    "Sintel": (sintel, ""),
    "FlyingChairs": (chairs, ""),
    "FlyingThings3D": (things, ""),
    "HD1K": (hd1k, ""),
    "Kitti2012Stereo": (
        stereo(
            *(f"Kitti2012/training/colored_{i}/{{}}_10.png" for i in (0, 1)),
            ("Kitti2012/training/disp_noc/{}_10.png",),
            words16,
        ),
        "",
    ),
    "Kitti2015Stereo": (
        stereo(
            *(f"Kitti2015/training/image_{i}/{{}}.png" for i in (2, 3)),
            tuple(f"Kitti2015/training/disp_occ_{i}/{{}}.png" for i in (0, 1)),
            words16,
        ),
        "",
    ),
    "CarlaStereo": (
        stereo(
            *(f"carla-highres/trainingF/{{}}/im{i}.png" for i in (0, 1)),
            tuple(f"carla-highres/trainingF/{{}}/disp{i}GT.pfm" for i in (0, 1)),
            pfm,
        ),
        "",
    ),
    "CREStereo": (creates, ""),
    "FallingThingsStereo": (falling, ""),
    "SceneFlowStereo": (
        stereo(
            *(f"{SCENES}/frames_cleanpass/TRAIN/A/{{}}/{side}/6.png" for side in ("left", "right")),
            tuple(f"{SCENES}/disparity/TRAIN/A/{{}}/{side}/6.pfm" for side in ("left", "right")),
            pfm,
        ),
        "",
    ),
    "SintelStereo": (sintel_stereo, ""),
    "InStereo2k": (
        stereo(
            *(f"InStereo2k/train/{{}}/{side}.png" for side in ("left", "right")),
            tuple(f"InStereo2k/train/{{}}/{side}_disp.png" for side in ("left", "right")),
            words16,
        ),
        "",
    ),
    "ETH3DStereo": (eth, ""),
}
"""Each set with what writes its files, and what a spec says beside its name and root."""


def theirs(name: str, source: Any) -> list[tuple[Any, ...]]:
    """What torchvision gives, one by one, in the order of the images' files."""
    made = getattr(datasets, name)(**{key: value for key, value in source.arguments.items() if value is not None})
    found = [made[index] for index in range(len(made))]
    files = getattr(made, "images" if name == "Cityscapes" else "_image_list", None)
    if name in ("Cityscapes", "Sintel") and files is not None:
        found = [found[index] for index in sorted(range(len(found)), key=lambda index: files[index])]
    return found


def same(field: str, ours: Any, their: Any) -> bool:
    if field in ("image", "image2"):
        left = v2.functional.pil_to_tensor(ours) if isinstance(ours, Image.Image) else torch.as_tensor(ours)
        return torch.equal(left, v2.functional.pil_to_tensor(their.convert("RGB")))
    if field == "boxes":
        x, y, width, height = their["bbox"].unbind(1)
        return bool((ours == torch.stack([x, y, x + width, y + height], 1)).all())
    return torch.equal(torch.as_tensor(ours).double(), torch.as_tensor(np.array(their)).double())


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_small_files_in_the_real_layout(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sample is torchvision's, field by field, and a spec's batches hold them, in one order on any machine."""
    layout, more = LAYOUTS[name]
    layout(tmp_path)
    unfetched(getattr(datasets, name), monkeypatch)
    if name == "Places365":
        monkeypatch.setattr(datasets.Places365, "_check_integrity", lambda *_: True)
    if name == "HD1K":  # torchvision decodes 16-bit PNGs of three channels, and warns that it will not for long
        made = np.arange(2 * SIZE[0] * SIZE[1], dtype=np.float32).reshape(2, *SIZE)
        valid = noise(*SIZE) > 100
        reader = "torchvision.datasets._optical_flow._read_16bits_png_with_flow_and_valid_mask"
        monkeypatch.setattr(reader, lambda path: (made + int(Path(path).stem[-1]), valid))
    listed = os.listdir
    monkeypatch.setattr(os, "listdir", lambda *path: sorted(listed(*path), reverse=True))
    text = f"train: {{source: {{type: {name}, root: {tmp_path}{', ' + more if more else ''}}}, shuffle: false}}"
    source = recipe(text).splits["train"].source
    samples, expected = load(source), theirs(name, source)
    assert len(samples) == len(expected) > 1
    for index, values in enumerate(expected):
        sample = samples.sample(index)
        fields = [field for field in sample if field != "labels"]
        assert fields and all(same(field, sample[field], value) for field, value in zip(fields, values, strict=False))
        assert len(fields) == len([value for value in values if value is not None])
    (batch, *_) = epoch(opened(text + "\nbatch_size: 2").splits["train"])
    assert batch["image"].shape == (2, 3, *SIZE) and batch["image"].dtype == torch.float32
    first = v2.functional.pil_to_tensor(expected[0][0].convert("RGB")).float() / 255
    assert torch.allclose(batch["image"][0], first)
