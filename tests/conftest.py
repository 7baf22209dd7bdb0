# SPDX-License-Identifier: BSD-3-Clause
"""Lets idle threads sleep, before torch is imported.

Threads of OpenMP wait for work in a busy loop. The tensors of most tests are so small that this
took half of the time of a run on two cores, and more on a busy machine.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
