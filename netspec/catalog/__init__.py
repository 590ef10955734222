"""What a spec may name.

`lookup` finds an entry, `names` lists them, `suggest` mends a misspelt one,
`instead` says what stands for one that is left out, `register` adds one.
"""

from netspec.catalog.entry import REQUIRED, Argument, Category, Entry, Inferred, Port, Rule
from netspec.catalog.left_out import instead
from netspec.catalog.registry import lookup, names, register, suggest

__all__ = [
    "REQUIRED",
    "Argument",
    "Category",
    "Entry",
    "Inferred",
    "Port",
    "Rule",
    "instead",
    "lookup",
    "names",
    "register",
    "suggest",
]
