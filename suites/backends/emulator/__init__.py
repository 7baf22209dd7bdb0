# SPDX-License-Identifier: BSD-3-Clause
"""The CUDA kernels on a machine without a GPU.

The sources are compiled as C++ for the host: a text replacement turns launches into calls, and
`include/ptx.cuh` defines the instructions of csrc/cuda/tensor_core/mma/ptx*.cuh. Blocks run one
after the other, and the threads of a block are fibers. So the correctness suite checks every path
of every kernel on any machine. Races, memory order and speed can only be tested on hardware.
"""
