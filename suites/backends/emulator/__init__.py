# SPDX-License-Identifier: BSD-3-Clause
"""The CUDA kernels on a machine without a GPU.

Their sources are compiled as C++ for the host, launches by a replacement of text and the
instructions of csrc/cuda/fused/ptx.cuh by their definitions, and run block after block with the
threads of a block as fibers that take turns. So the correctness suite judges every path of every
kernel on any machine. What only hardware can show stays hidden: races, memory order, speed.
"""
