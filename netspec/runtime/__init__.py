"""All that imports torch: live modules, data, training, and what is done with a run."""

import os
import sys

if "torch" not in sys.modules:
    # Idle OpenMP threads spin by default. Where other processes want the cores, a training step that takes 6 ms then
    # takes 200; threads that sleep cost a few microseconds more to wake. OpenMP reads this once, when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
