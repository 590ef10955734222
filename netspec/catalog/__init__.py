"""What a spec may name.

`lookup` finds an entry, `names` lists them, `suggest` mends a misspelt one,
`instead` says what stands for one that is left out, `register` adds one. What is derived from the catalog is kept by
`cached`, so that it follows.
"""

from netspec.catalog.entry import REQUIRED, Argument, Category, Entry, GivenClass, GivenModule, Inferred, Port, Rule
from netspec.catalog.left_out import instead
from netspec.catalog.registry import cached, lookup, names, register, registered, suggest, unregister

__all__ = [
    "REQUIRED",
    "Argument",
    "Category",
    "Entry",
    "GivenClass",
    "GivenModule",
    "Inferred",
    "Port",
    "Rule",
    "cached",
    "instead",
    "lookup",
    "names",
    "register",
    "registered",
    "suggest",
    "unregister",
]
