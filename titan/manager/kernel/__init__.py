"""The kernel: commands and ticks in, events out. Pure: no clock, randomness, I/O, await.

`kernel.py` is the frame, `desk.py` what every decision stands on; the decisions are in
`submit.py`, `cancel.py`, `drain.py`, `workers.py` and `reports.py`, the commands in `commands.py`.
"""

from titan.manager.kernel.desk import Settings
from titan.manager.kernel.kernel import Kernel

__all__ = ["Kernel", "Settings"]
