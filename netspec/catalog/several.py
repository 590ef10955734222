"""How several devices train one model, by torch's names: the ways of `distribute`, and what each may be told."""

from __future__ import annotations

from typing import Final

KINDS: Final = ("ddp", "fsdp", "data_parallel")
"""torch's `DistributedDataParallel` and `fully_shard` for several processes, `DataParallel` for several GPUs of one."""

FLAGS: Final[dict[str, dict[str, str]]] = {
    "ddp": {
        "find_unused_parameters": "Whether some weights may have no part in a loss.",
        "static_graph": "Whether all passes use the same weights.",
        "gradient_as_bucket_view": "Whether gradients lie where they are added up, which saves their memory.",
        "broadcast_buffers": "Whether each pass begins with the first process's buffers.",
    },
    "fsdp": {"reshard_after_forward": "Whether a block's weights are let go between forward and backward."},
    "data_parallel": {},
}
"""The flags of each, which go to torch under these names."""
COUNTS: Final[dict[str, dict[str, str]]] = {"ddp": {"bucket_cap_mb": "So many megabytes are added up at once."}}
"""The numbers of each."""
