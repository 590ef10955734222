"""Small files laid out as torchvision's data sets want them, and what writes them."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image


def noise(*shape: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path: Path, *shape: int, seed: int = 0, pixels: np.ndarray[Any, Any] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(*shape, seed=seed) if pixels is None else pixels).save(path)
    return path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def idx(path: Path, array: np.ndarray[Any, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = np.array([0x800 + array.ndim, *array.shape], dtype=">i4")
    path.write_bytes(header.tobytes() + array.astype(np.uint8).tobytes())


def emnist(root: Path) -> None:
    for part in ("train", "test"):
        idx(root / "EMNIST/raw" / f"emnist-letters-{part}-images-idx3-ubyte", noise(5, 28, 28))
        idx(root / "EMNIST/raw" / f"emnist-letters-{part}-labels-idx1-ubyte", np.array([1, 2, 3, 1, 26]))


def svhn(root: Path) -> None:
    savemat = import_module("scipy.io").savemat

    for part in ("train", "test"):
        savemat(root / f"{part}_32x32.mat", {"X": noise(32, 32, 3, 6), "y": np.array([[1], [10], [2], [3], [9], [10]])})


def stl10(root: Path) -> None:
    folder = root / "stl10_binary"
    folder.mkdir()
    for part in ("train", "test"):
        noise(3, 3 * 96 * 96).tofile(folder / f"{part}_X.bin")
        np.array([1, 10, 4], dtype=np.uint8).tofile(folder / f"{part}_y.bin")
    names = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
    write(folder / "class_names.txt", "\n".join(names))


def usps(root: Path) -> None:
    import bz2

    lines = []
    for number in range(4):
        pixels = np.random.default_rng(number).uniform(-1, 1, 256)
        lines.append(f"{number + 1} " + " ".join(f"{i + 1}:{value:.6f}" for i, value in enumerate(pixels)))
    for name in ("usps.bz2", "usps.t.bz2"):
        (root / name).write_bytes(bz2.compress("\n".join(lines).encode()))


def semeion(root: Path) -> None:
    rows = []
    for number in range(3):
        pixels = (noise(256, seed=number) > 128).astype(int)
        rows.append(" ".join([*map(str, pixels), *("1" if i == number else "0" for i in range(10))]))
    write(root / "semeion.data", "\n".join(rows) + "\n")


def fer2013(root: Path) -> None:
    rows = [
        [str(number % 7), " ".join(map(str, noise(48 * 48, seed=number))), usage]
        for number, usage in enumerate(("Training", "PublicTest", "Training", "PrivateTest"))
    ]
    folder = root / "fer2013"
    folder.mkdir()
    with (folder / "fer2013.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["emotion", "pixels", "Usage"], *rows])


def folders(root: Path, names: Mapping[str, int], *, suffix: str = "jpg", mode: tuple[int, ...] = (20, 24, 3)) -> None:
    for name, count in names.items():
        for number in range(count):
            save(root / name / f"{number}.{suffix}", *mode, seed=number)


def caltech101(root: Path) -> None:
    for name in ("accordion", "airplanes", "BACKGROUND_Google"):
        for number in (1, 2):
            save(root / "caltech101/101_ObjectCategories" / name / f"image_{number:04d}.jpg", 20, 24, 3, seed=number)
    save(root / "caltech101/101_ObjectCategories/accordion/image_0003.jpg", 20, 24)  # grey
    for name in ("accordion", "airplanes"):
        (root / "caltech101/Annotations" / name).mkdir(parents=True)


def caltech256(root: Path) -> None:
    for label, name in enumerate(("001.ak47", "002.american-flag"), 1):
        for number in (1, 2):
            save(root / "caltech256/256_ObjectCategories" / name / f"{label:03d}_{number:04d}.jpg", 20, 24, 3)


def dtd(root: Path) -> None:
    folder = root / "dtd/dtd"
    for part, names in (("train", ("banded/b1", "dotted/d1")), ("val", ("banded/b2", "dotted/d2"))):
        write(folder / f"labels/{part}1.txt", "\n".join(f"{name}.jpg" for name in names))
        for name in names:
            save(folder / "images" / f"{name}.jpg", 20, 24, 3)


def fgvc(root: Path) -> None:
    folder = root / "fgvc-aircraft-2013b/data"
    write(folder / "variants.txt", "707-320\n727-200\n")
    for part in ("train", "val", "test"):
        write(folder / f"images_variant_{part}.txt", "0001 727-200\n0002 707-320\n")
    for name in ("0001", "0002"):
        save(folder / "images" / f"{name}.jpg", 20, 24, 3)


def food(root: Path) -> None:
    for part in ("train", "test"):
        write(root / f"food-101/meta/{part}.json", json.dumps({"waffles": ["waffles/1"], "apple_pie": ["apple_pie/2"]}))
    for name in ("waffles/1", "apple_pie/2"):
        save(root / "food-101/images" / f"{name}.jpg", 20, 24, 3)


def gtsrb(root: Path) -> None:
    for label in ("00000", "00001"):
        save(root / "gtsrb/GTSRB/Training" / label / "a.ppm", 20, 24, 3)
        save(root / "gtsrb/GTSRB/Final_Test/Images" / f"{label}.ppm", 20, 24, 3)
    write(root / "gtsrb/GT-final_test.csv", "Filename;ClassId\n00000.ppm;1\n00001.ppm;0\n")


def clevr(root: Path) -> None:
    folder = root / "clevr/CLEVR_v1.0"
    for part in ("train", "val"):
        for number, name in enumerate(("one.png", "two.png")):
            save(folder / f"images/{part}/{name}", 20, 24, 3, seed=number)
        scene = {
            "scenes": [{"image_filename": n, "objects": [{}] * count} for n, count in (("one.png", 3), ("two.png", 8))]
        }
        write(folder / f"scenes/CLEVR_{part}_scenes.json", json.dumps(scene))


def rendered(root: Path) -> None:
    for part in ("train", "valid", "test"):
        folders(root / "rendered-sst2" / part, {"negative": 1, "positive": 2}, suffix="png")


def sun(root: Path) -> None:
    write(root / "SUN397/ClassName.txt", "/a/abbey\n/b/beach\n")
    save(root / "SUN397/b/beach/sun_b.jpg", 20, 24, 3)
    save(root / "SUN397/a/abbey/sun_z.jpg", 20, 24, 3)


def omniglot(root: Path) -> None:
    for alphabet, character in (("Zulu", "character02"), ("Ahom", "character01")):
        for part in ("images_background", "images_evaluation"):
            save(root / "omniglot-py" / part / alphabet / character / "0001_01.png", 105, 105)


def pets(root: Path) -> None:
    folder = root / "oxford-iiit-pet"
    for part in ("trainval", "test"):
        write(folder / f"annotations/{part}.txt", "Abyssinian_1 1 1 1\nyorkshire_terrier_2 37 2 25\n")
    for number, name in enumerate(("Abyssinian_1", "yorkshire_terrier_2")):
        save(folder / "images" / f"{name}.jpg", 20, 24, 3)
        save(folder / "annotations/trimaps" / f"{name}.png", pixels=noise(20, 24, seed=number) % 3 + 1)


def celeba(root: Path) -> None:
    folder = root / "celeba"
    names = [f"{i:06d}.jpg" for i in (1, 2, 3)]
    write(
        folder / "list_eval_partition.txt",
        "".join(f"{name} {part}\n" for name, part in zip(names, (0, 1, 0), strict=True)),
    )
    write(folder / "identity_CelebA.txt", "".join(f"{name} {i + 5}\n" for i, name in enumerate(names)))
    attributes = " ".join(f"a{i}" for i in range(40))
    rows = "".join(
        f"{name} {' '.join('1' if (i + j) % 3 else '-1' for j in range(40))}\n" for i, name in enumerate(names)
    )
    write(folder / "list_attr_celeba.txt", f"3\n{attributes}\n{rows}")
    rows = "".join(f"{name} 1 2 {10 + i} 12\n" for i, name in enumerate(names))
    write(folder / "list_bbox_celeba.txt", f"3\nimage_id x_1 y_1 width height\n{rows}")
    points = " ".join(f"p{i}" for i in range(10))
    rows = "".join(f"{name} {' '.join(str(i + j) for j in range(10))}\n" for i, name in enumerate(names))
    write(folder / "list_landmarks_align_celeba.txt", f"3\n{points}\n{rows}")
    for number, name in enumerate(names):
        save(folder / "img_align_celeba" / name, 20, 24, 3, seed=number)


def places(root: Path) -> None:
    save(root / "val_256" / "Places365_val_00000001.jpg", 20, 24, 3)


def imagenette(root: Path) -> None:
    for part in ("train", "val"):
        folders(root / "imagenette2" / part, {"n01440764": 2, "n02102040": 1}, suffix="jpeg")


def country(root: Path) -> None:
    for part in ("train", "valid", "test"):
        folders(root / "country211" / part, {"AD": 1, "AE": 2})


def eurosat(root: Path) -> None:
    folders(root / "eurosat/2750", {"AnnualCrop": 2, "Forest": 1})


def inaturalist(root: Path) -> None:
    for number, rest in enumerate(("Animalia_a_b_c_d_e_f", "Plantae_g_h_i_j_k_l")):
        for version in ("2021_train", "2021_valid"):
            for name in ("z.jpg", "a.jpg"):
                save(root / version / f"{number:05d}_{rest}" / name, 20, 24, 3)


def moving(root: Path) -> None:
    (root / "MovingMNIST").mkdir()
    np.save(root / "MovingMNIST/mnist_test_seq.npy", noise(20, 3, 64, 64))


def phototour(root: Path) -> None:
    (root / "liberty").mkdir()
    matches = torch.tensor([[0, 1, 1], [2, 0, 0]])
    torch.save((torch.from_numpy(noise(3, 64, 64)), torch.arange(3), matches), root / "liberty.pt")


def unfetched(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision compares some files with the MD5 of the published ones; these here are not those."""
    for module in {sys.modules[kind.__module__], sys.modules["torchvision.datasets.mnist"]}:
        if hasattr(module, "check_integrity"):
            monkeypatch.setattr(module, "check_integrity", lambda path, *_, **__: Path(path).exists())
    for name in ("_check_integrity",):
        if hasattr(kind, name) and kind.__name__ != "Places365":
            monkeypatch.setattr(kind, name, lambda *_, **__: True)


SETS: Mapping[str, tuple[Callable[[Path], None], str]] = {
    "EMNIST": (emnist, "split: letters"),
    "SVHN": (svhn, ""),
    "STL10": (stl10, ""),
    "USPS": (usps, ""),
    "SEMEION": (semeion, ""),
    "FER2013": (fer2013, ""),
    "Caltech101": (caltech101, ""),
    "Caltech256": (caltech256, ""),
    "DTD": (dtd, ""),
    "FGVCAircraft": (fgvc, ""),
    "Food101": (food, ""),
    "GTSRB": (gtsrb, ""),
    "CLEVRClassification": (clevr, ""),
    "RenderedSST2": (rendered, ""),
    "SUN397": (sun, ""),
    "Omniglot": (omniglot, ""),
    "OxfordIIITPet": (pets, ""),
    "Imagenette": (imagenette, ""),
    "Country211": (country, ""),
    "EuroSAT": (eurosat, ""),
    "INaturalist": (inaturalist, ""),
}
"""Sets of images with a class, each with what writes its files."""


def voc(root: Path) -> Path:
    folder = root / "VOCdevkit/VOC2012"
    for part in ("train", "val"):
        write(folder / f"ImageSets/Main/{part}.txt", "a\nb\n")
        write(folder / f"ImageSets/Segmentation/{part}.txt", "a\nb\n")
    things = {"a": (("cat", (2, 3, 12, 15)), ("dog", (5, 5, 20, 18))), "b": (("person", (1, 1, 9, 9)),)}
    for name, found in things.items():
        save(folder / "JPEGImages" / f"{name}.jpg", 20, 24, 3)
        save(folder / "SegmentationClass" / f"{name}.png", pixels=noise(20, 24) % 21)
        objects = "".join(
            f"<object><name>{kind}</name><bndbox><xmin>{x}</xmin><ymin>{y}</ymin><xmax>{u}</xmax><ymax>{v}</ymax>"
            "</bndbox></object>"
            for kind, (x, y, u, v) in found
        )
        write(folder / "Annotations" / f"{name}.xml", f"<annotation>{objects}</annotation>")
    return root


def flow(root: Path) -> None:
    for number in range(2):
        save(root / f"KittiFlow/training/image_2/{number}_10.png", 20, 24, 3, seed=number)
        save(root / f"KittiFlow/training/image_2/{number}_11.png", 20, 24, 3, seed=number + 5)
        save(root / f"KittiFlow/training/flow_occ/{number}_10.png", 20, 24, 3, seed=number + 9)
