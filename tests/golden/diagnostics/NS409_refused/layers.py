from torch import Tensor, nn


class Flat(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 2:
            raise ValueError(f"two dimensions, please, and not {x.dim()}")
        return x


def register(catalog):
    catalog.layer(Flat)
