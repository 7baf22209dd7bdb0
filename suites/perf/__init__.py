# SPDX-License-Identifier: BSD-3-Clause
"""Time and memory of every implementation on the layers of real nets, checked before timing."""
