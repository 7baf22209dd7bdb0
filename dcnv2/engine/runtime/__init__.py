# SPDX-License-Identifier: BSD-3-Clause
"""What every command on a run needs: device, processes, signals, data sets, checkpoints."""
