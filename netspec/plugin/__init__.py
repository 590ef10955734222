"""For authors of plugins: how a library's layers, functions, losses and so on join the catalog.

A plugin is a module. It says what it adds in a function `register(catalog)`, or with decorators where it defines it:

    def register(catalog):
        catalog.layer(Swish)                      # a class
        catalog.layer("torch_geometric.nn.GCNConv", infers={"in_channels": -1}, …)

    @netspec.plugin.layer
    class Swish(nn.Module): …

Only the person enables one: by installing a package with an entry point in the group `netspec.plugins`, or with
`--plugin file.py`. `docs/plugins.md` has the whole of it.
"""

from netspec.plugin.declare import (
    Registrar,
    function,
    initializer,
    layer,
    loss,
    optimizer,
    scheduler,
    transform,
)
from netspec.plugin.load import PluginError, enable, enable_installed, enabled, plugins_of

__all__ = [
    "PluginError",
    "Registrar",
    "enable",
    "enable_installed",
    "enabled",
    "function",
    "initializer",
    "layer",
    "loss",
    "optimizer",
    "plugins_of",
    "scheduler",
    "transform",
]
