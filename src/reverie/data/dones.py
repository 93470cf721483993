"""Robots' data sets have one flag, `dones`, for the end of the task and the end of the recording. Here they part."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def ends(
    dones: NDArray[np.bool_] | None, last: NDArray[np.bool_], success: NDArray[np.bool_] | None
) -> dict[str, NDArray[np.bool_]]:
    """What `Dataset.from_arrays` is told of the ends: `terminals` where `dones` are known, and `timeouts` or `ends`.

    `dones`, `last` (true at every trajectory's last row) and `success` (None where nobody knows it) are bool `[N]`.
    A done before the last row can only tell of a success, so it is a terminal, after which the trajectory goes on. One
    in the last row is a terminal where `success` is true, else a timeout. Without `success` those in last rows are
    terminals if some trajectory's last row has none, for then a done is no mere end of the recording; else timeouts.
    """
    if dones is None:
        return {"timeouts": last}
    terminals = dones.copy()
    if success is not None:
        terminals &= ~last | success
    elif dones[last].all():
        terminals &= ~last
    if (terminals & ~last).any():
        return {"terminals": terminals, "ends": last}
    return {"terminals": terminals, "timeouts": last & ~terminals}


def successes(rewards: Any) -> NDArray[np.bool_] | None:
    """Where rewards of nothing but 0 and 1 are 1, as they are in these data sets on success: bool `[N]`; else None."""
    if rewards is None or not np.isin(rewards, (0, 1)).all():
        return None
    return np.asarray(rewards) == 1
