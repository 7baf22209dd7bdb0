# SPDX-License-Identifier: BSD-3-Clause
"""Detectors of detectron2 and mmdetection as our weights and options.

A file is recognised by the names of its tensors (`origins`). One module for each project renames
them and reads the conventions that the file, or the configuration next to it, states; `layout`
reads the architecture from the shapes, and `conventions` folds into the weights what is no option.
`foreign` joins them.
"""
