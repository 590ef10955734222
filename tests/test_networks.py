"""Networks outside of torchvision against the same written by hand: keys, weights from one seed, equal bits."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import netspec
from netspec.runtime.verify import emitted_class

SPECS = Path(__file__).resolve().parent.parent / "specs"


class Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(128, 16),
        )
        self.decoder = nn.Sequential(
            nn.Linear(16, 128),
            nn.ReLU(),
            nn.Unflatten(1, (32, 2, 2)),
            nn.ConvTranspose2d(32, 16, 2, stride=2),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 1, 2, stride=2),
            nn.Sigmoid(),
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        code = self.encoder(image)
        return self.decoder(code), code


class Recurrent(nn.Module):
    def __init__(self, cell: type[nn.LSTM | nn.GRU]) -> None:
        super().__init__()
        self.rnn = cell(8, 64, num_layers=2, bidirectional=True, dropout=0.2, batch_first=True)
        self.fc = nn.Linear(128, 10)

    def forward(self, image: Tensor) -> Tensor:
        _, state = self.rnn(image[:, 0])
        hidden = state[0] if isinstance(state, tuple) else state
        return self.fc(torch.cat([hidden[-2], hidden[-1]], dim=1))


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(8, 64)
        self.positions = nn.Parameter(torch.empty(1, 8, 64).normal_(std=0.02))
        self.encoder = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(
                    64, 4, dim_feedforward=256, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
                )
                for _ in range(3)
            )
        )
        self.norm = nn.LayerNorm(64)
        self.head = nn.Linear(64, 10)

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.embedding(image[:, 0]) + self.positions
        return self.head(self.norm(self.encoder(tokens)).mean(1))


class TextEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(20000, 128, padding_idx=0)
        self.positions = nn.Parameter(torch.empty(1, 256, 128).normal_(std=0.02))
        self.drop = nn.Dropout(0.1)
        layer = nn.TransformerEncoderLayer(
            128, nhead=4, dim_feedforward=512, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, num_layers=4, norm=nn.LayerNorm(128), enable_nested_tensor=False)
        self.head = nn.Linear(128, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        placed = self.drop(self.words(tokens) + self.positions)
        return self.head(self.encoder(placed, src_key_padding_mask=tokens == 0)[:, 0])


class CifarBlock(nn.Module):
    def __init__(self, in_planes: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        missing = out.shape[1] - x.shape[1]
        if missing:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, missing // 2, missing // 2))
        return F.relu(out + x)


class Resnet20(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(CifarBlock(16, 16, 1) for _ in range(3)))
        self.layer2 = nn.Sequential(CifarBlock(16, 32, 2), CifarBlock(32, 32, 1), CifarBlock(32, 32, 1))
        self.layer3 = nn.Sequential(CifarBlock(32, 64, 2), CifarBlock(64, 64, 1), CifarBlock(64, 64, 1))
        self.linear = nn.Linear(64, 10)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, image: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(image)))
        return self.linear(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


class DoubleConv(nn.Sequential):
    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )


class Down(nn.Module):
    def __init__(self, in_channels: int, width: int, first: bool) -> None:
        super().__init__()
        self.pool = nn.Identity() if first else nn.MaxPool2d(2)
        self.conv = DoubleConv(in_channels, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.pool(x))


class Up(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.conv = DoubleConv(2 * width, width)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.conv(torch.cat([skip, self.up(x)], dim=1))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        widths = [3, 64, 128, 256, 512, 1024]
        self.downs = nn.ModuleList(Down(a, b, a == 3) for a, b in pairwise(widths))
        self.ups = nn.ModuleList(Up(width) for width in (512, 256, 128, 64))
        self.head = nn.Conv2d(64, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        found, x = [], image
        for down in self.downs:
            x = down(x)
            found.append(x)
        for up, skip in zip(self.ups, found[-2::-1], strict=True):
            x = up(x, skip)
        return self.head(x)


class CausalAttention(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.c_attn = nn.Linear(width, 3 * width, bias=False)
        self.c_proj = nn.Linear(width, width, bias=False)
        self.resid_dropout = nn.Dropout(dropout)
        self.heads, self.dropout = heads, dropout

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        parts = self.c_attn(x).split(width, dim=2)
        q, k, v = (p.view(batch, length, self.heads, width // self.heads).transpose(1, 2) for p in parts)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        return self.resid_dropout(self.c_proj(y.transpose(1, 2).contiguous().view(batch, length, width)))


class GPTBlock(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, bias=False)
        self.attn = CausalAttention(width, heads, dropout)
        self.ln_2 = nn.LayerNorm(width, bias=False)
        self.mlp = nn.ModuleDict(
            {
                "c_fc": nn.Linear(width, 4 * width, bias=False),
                "gelu": nn.GELU(),
                "c_proj": nn.Linear(4 * width, width, bias=False),
                "dropout": nn.Dropout(dropout),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        hidden = self.ln_2(x)
        for layer in self.mlp.values():
            hidden = layer(hidden)
        return x + hidden


class GPT(nn.Module):
    """As karpathy/nanoGPT's, but that the weight which is the embedding's and the head's is drawn once."""

    def __init__(self, depth: int = 6, width: int = 384) -> None:
        super().__init__()
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(65, width),
                "wpe": nn.Embedding(256, width),
                "drop": nn.Dropout(0.2),
                "h": nn.ModuleList(GPTBlock(width, 6, 0.2) for _ in range(depth)),
                "ln_f": nn.LayerNorm(width, bias=False),
            }
        )
        self.lm_head = nn.Linear(width, 65, bias=False)
        self.lm_head.weight = self.transformer.wte.weight
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding) and module is not self.lm_head:
                std = 0.02 / (2 * depth) ** 0.5 if name.endswith("c_proj") else 0.02
                nn.init.normal_(module.weight, std=std)

    def forward(self, tokens: Tensor) -> Tensor:
        parts = self.transformer
        x = parts.drop(parts.wte(tokens) + parts.wpe(torch.arange(tokens.shape[1])))
        for block in parts.h:
            x = block(x)
        return self.lm_head(parts.ln_f(x))


def digits(random: torch.Generator) -> Tensor:
    return torch.rand(4, 1, 8, 8, generator=random)


def words(random: torch.Generator) -> Tensor:
    """Texts of different lengths, filled up."""
    tokens = torch.randint(1, 20000, (3, 256), generator=random)
    return tokens.masked_fill(torch.arange(256) >= torch.tensor([[256], [100], [7]]), 0)


REFERENCES: dict[str, tuple[Callable[[], nn.Module], Callable[[torch.Generator], Tensor]]] = {
    "autoencoder": (Autoencoder, digits),
    "lstm": (lambda: Recurrent(nn.LSTM), digits),
    "gru": (lambda: Recurrent(nn.GRU), digits),
    "transformer": (Transformer, digits),
    "text_encoder": (TextEncoder, words),
    "cifar10": (Resnet20, lambda random: torch.randn(4, 3, 32, 32, generator=random)),
    "unet": (UNet, lambda random: torch.randn(2, 3, 32, 48, generator=random)),
    "gpt": (GPT, lambda random: torch.randint(0, 65, (2, 16), generator=random)),
}


def outputs(module: nn.Module, example: Tensor) -> list[Tensor]:
    """What the module gives in evaluation, and in training with its random draws from one seed."""
    found = []
    for mode in (False, True):
        torch.manual_seed(1)
        given = module.train(mode)(example)
        found += [given] if isinstance(given, Tensor) else list(given)
    return found


@pytest.mark.parametrize("name", REFERENCES)
def test_parity_with_the_network_written_by_hand(name: str) -> None:
    make, example_of = REFERENCES[name]
    program = netspec.compile(SPECS / f"{name}.yaml")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        reference = make()
        start = {key: value.clone() for key, value in reference.state_dict().items()}
        example = example_of(torch.Generator().manual_seed(2))
        wanted = outputs(reference, example)
        for door in (program.module, emitted_class(program)):
            torch.manual_seed(0)
            module = door()
            state = module.state_dict()
            assert list(state) == list(start)
            assert all(torch.equal(state[key], value) for key, value in start.items())
            given = outputs(module, example)
            assert len(given) == len(wanted)
            assert all(torch.equal(one, other) for one, other in zip(given, wanted, strict=True))
            module.load_state_dict(start, strict=True)
            reference.load_state_dict(module.state_dict(), strict=True)


@pytest.mark.parametrize("door", ["live", "emitted"])
def test_published_weights_of_resnet20(door: str, real_data: Path) -> None:
    """The weights of akamaster/pytorch_resnet_cifar10, which are right for 91.73 % of the whole test set."""
    program = netspec.compile(SPECS / "cifar10.yaml")
    module = program.module() if door == "live" else emitted_class(program)()
    file = real_data / "pretrained_cifar10" / "resnet20-12fca82f.th"
    state = torch.load(file, weights_only=True, map_location="cpu")["state_dict"]
    module.load_state_dict({key.removeprefix("module."): value for key, value in state.items()}, strict=True)
    arrays = np.load(real_data / "cifar10" / "cifar10_sub_5000_1000.npz")
    images = torch.tensor(arrays["x_test"]).permute(0, 3, 1, 2) / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        logits = module.eval()((images - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    right = (logits.argmax(1) == torch.tensor(arrays["y_test"]).long()).double().mean().item()
    assert right == pytest.approx(0.9173, abs=0.026)  # three standard errors of a share of 1,000


@pytest.mark.parametrize(("name", "at_least"), [("lstm", 0.93), ("gru", 0.93), ("transformer", 0.92)])
def test_it_learns_the_digits(name: str, at_least: float, tmp_path: Path) -> None:
    run = netspec.train(SPECS / f"{name}.yaml", set={"train.epochs": 15}, run_dir=tmp_path / "run", progress="none")
    assert run.results["test"]["accuracy"] >= at_least


def test_the_autoencoder_beats_as_many_principal_components(tmp_path: Path) -> None:
    """Sixteen numbers of a digit by PCA leave a squared error that the network's sixteen undercut on unseen digits."""
    from sklearn.datasets import load_digits
    from sklearn.decomposition import PCA

    pixels = load_digits().data / 16
    linear = PCA(16).fit(pixels)
    error = float(((linear.inverse_transform(linear.transform(pixels)) - pixels) ** 2).mean())
    run = netspec.train(SPECS / "autoencoder.yaml", run_dir=tmp_path / "run", progress="none")
    assert run.results["test"]["loss"] < error


def test_the_recipe_of_resnet20_trains(real_data: Path, tmp_path: Path) -> None:
    """A few steps of it on real photographs, from a file in place of torchvision's folder."""
    arrays = {
        "type": "NumPy",
        "path": str(real_data / "cifar10" / "cifar10_sub_5000_1000.npz"),
        "channels_last": True,
        "classes": ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
    }
    overrides = {
        "data.source": {**arrays, "fields": {"image": "x_train", "label": "y_train"}},
        "data.test.source": {**arrays, "fields": {"image": "x_test", "label": "y_test"}},
        "data.batch_size": 64,
        "train.epochs": 1,
        "train.optimizer.lr": 0.05,
    }
    run = netspec.train(SPECS / "cifar10.yaml", set=overrides, run_dir=tmp_path / "run", progress="none")
    assert run.results["test"]["accuracy"] > 0.25
