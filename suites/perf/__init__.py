# SPDX-License-Identifier: BSD-3-Clause
"""What every implementation costs on the layers of real nets: right first, then timed."""
