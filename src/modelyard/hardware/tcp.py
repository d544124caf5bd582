"""The process-group backend ``tcp`` of old scripts, which torch has no more: it is gloo.

torch itself calls `register`, by the entry point group ``torch.backends``, at the end of its import.
"""

import os


def register() -> None:
    """Have ``init_process_group("tcp")`` make a group of gloo, in the processes of a training job."""
    if "SM_HOSTS" not in os.environ:
        return
    import torch.distributed as dist

    if dist.is_available() and dist.is_gloo_available() and "tcp" not in dist.Backend.backend_list:
        dist.Backend.register_backend("tcp", _gloo, devices=["cpu"])


def _gloo(store: object, rank: int, size: int, timeout: object) -> object:
    from torch.distributed import ProcessGroupGloo, is_initialized

    if rank == 0 and not is_initialized():  # Not again for each group of some of the processes.
        print("modelyard: the process-group backend 'tcp' is called 'gloo' today", flush=True)  # noqa: T201
    return ProcessGroupGloo(store, rank, size, timeout=timeout)
