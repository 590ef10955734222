"""Which names may become attributes of a module, parameters of a constructor, and classes."""

from __future__ import annotations

import keyword
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

_PUBLIC: Final = """
    T_destination add_module append apply bfloat16 buffers call_super_init children compile cpu cuda double dump_patches
    eval extend extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half insert ipu
    load_state_dict modules mtia named_buffers named_children named_modules named_parameters parameters pop
    register_backward_hook register_buffer register_forward_hook register_forward_pre_hook register_full_backward_hook
    register_full_backward_pre_hook register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module
    register_parameter register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ set_extra_state
    set_submodule share_memory state_dict to to_empty train training type xpu zero_grad
"""

_PRIVATE: Final = """
    _apply _backward_hooks _backward_pre_hooks _buffers _call_impl _compiled_call_impl _forward_hooks
    _forward_hooks_always_called _forward_hooks_with_kwargs _forward_pre_hooks _forward_pre_hooks_with_kwargs
    _get_backward_hooks _get_backward_pre_hooks _get_item_by_idx _get_name _is_full_backward_hook _load_from_state_dict
    _load_state_dict_post_hooks _load_state_dict_pre_hooks _maybe_warn_non_full_backward_hook _modules _named_members
    _non_persistent_buffers_set _parameters _register_load_state_dict_pre_hook _register_state_dict_hook
    _replicate_for_data_parallel _save_to_state_dict _slow_forward _state_dict_hooks _state_dict_pre_hooks _version
    _wrapped_call_impl
"""
MODULE_ATTRIBUTES: Final = frozenset(_PUBLIC.split() + _PRIVATE.split())
"""What `nn.Module` and `nn.Sequential` have, `__dunder__` names left out: torch refuses a child of such a name."""

_SPOKEN: Final = """
    F OrderedDict abs enumerate float fnmatchcase getattr int isinstance len make_divisible math max min nn range
    reversed round str sum super torch torchvision zip
"""
SPOKEN: Final = frozenset(_SPOKEN.split())
"""What a constructor or `forward` may say: a parameter, an input or a loop of such a name would hide it. Generated code
adds a `_` to a size or a layer's variable of such a name."""


@dataclass(frozen=True, slots=True)
class NameProblem:
    """What is wrong with a name, and the mend."""

    message: str
    help: str


@lru_cache(maxsize=4096)
def check_layer_name(name: str) -> NameProblem | None:
    """Whether a layer may be called so: as an attribute of the module that holds it. `-` may stand inside."""
    if problem := _check_word(name, name[:1] + name[1:].replace("-", "_"), "a layer's name"):
        return problem
    if name in MODULE_ATTRIBUTES or _is_dunder(name):
        return NameProblem(
            f"a layer cannot be called `{name}`: every `nn.Module` has an attribute of that name",
            f"choose another name, such as `{name.strip('_')}_`",
        )
    if name == "torch":
        return NameProblem(
            "a layer cannot be called `torch`: the generated code means the library by it", "write `torch_`"
        )
    if name == "previous":
        return NameProblem(
            "a layer cannot be called `previous`: `from: previous` means the layer before",
            "choose another name, such as `before`",
        )
    return None


def check_name(name: str, what: str) -> NameProblem | None:
    """Whether `what` ("a block's name", "a parameter's name") may be so: a name in Python."""
    if problem := _check_word(name, name, what):
        return problem
    if _is_dunder(name) or name == "self":
        return NameProblem(f"`{name}` has a meaning of its own in Python", "choose another name")
    return None


def check_local_name(name: str, what: str) -> NameProblem | None:
    """Whether `what` may be so as a name that a generated function binds: a parameter, an input, a loop's name."""
    if name in SPOKEN:
        return NameProblem(
            f"{what} cannot be `{name}`: the generated code means something else by it", f"write `{name}_`"
        )
    return check_name(name, what)


def check_output_name(name: str) -> NameProblem | None:
    """Whether an output may be so: as a field of a NamedTuple."""
    if problem := check_name(name, "an output's name"):
        return problem
    if name.startswith("_") or name in ("count", "index"):
        why = (
            "the fields of a tuple do not begin with `_`"
            if name.startswith("_")
            else "every tuple has a method of that name"
        )
        return NameProblem(
            f"an output cannot be called `{name}`: {why}",
            f"write `{name.strip('_') or 'out'}{'' if name.startswith('_') else '_'}`",
        )
    return None


def _check_word(name: str, word: str, what: str) -> NameProblem | None:
    if not word.isidentifier():
        made = re.sub(r"\W+", "_", name).strip("_")
        if made[:1].isdigit():
            made = f"layer_{made}" if "layer" in what else f"n{made}"
        return NameProblem(
            f"{what} is letters, digits and `_`, not beginning with a digit, and `{name}` is not"
            if name
            else f"{what} is empty",
            f"write `{made}`" if made.isidentifier() else "choose a name of letters, digits and `_`",
        )
    if (read := unicodedata.normalize("NFKC", word)) != word:
        # In code the name would be another than in the `state_dict` of the live module.
        return NameProblem(f"{what} is `{name}`, which Python reads as `{read}`", f"write `{read}`")
    if keyword.iskeyword(word):
        return NameProblem(f"`{name}` is a keyword of Python, and {what} cannot be one", f"write `{name}_`")
    return None


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")
