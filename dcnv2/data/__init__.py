# SPDX-License-Identifier: BSD-3-Clause
"""Detection data: COCO folders, the generated set of shapes, transforms and loaders."""
