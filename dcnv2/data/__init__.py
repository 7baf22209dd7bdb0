# SPDX-License-Identifier: BSD-3-Clause
"""Detection data: COCO folders, the embedded set of drawn shapes, transforms and loaders."""
