"""What the `data` and `train` sections say, read and checked without torch."""

from netspec.recipe.sections import Recipe, read_recipe

__all__ = ["Recipe", "read_recipe"]
