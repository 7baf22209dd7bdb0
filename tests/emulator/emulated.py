# SPDX-License-Identifier: BSD-3-Clause
"""The emulated CUDA kernels on host tensors."""

import ctypes

import torch

GEOMETRY = 17
DTYPES = {torch.float64: 0, torch.float32: 1, torch.float16: 2, torch.bfloat16: 3}
POINTERS = (
    "input offset mask weight bias output grad_output grad_input grad_offset grad_mask grad_weight grad_bias"
).split()


class ConvOperands(ctypes.Structure):
    _fields_ = [
        ("geometry", ctypes.c_int64 * GEOMETRY),
        *[(name, ctypes.c_int32) for name in ("dtype", "offset_dtype", "path", "allow_tf32")],
        *[(name, ctypes.c_void_p) for name in POINTERS],
    ]


def _last(t):
    """Channels last, chunks aligned, as the operators hand tensors to the kernels."""
    t = t.permute(0, 2, 3, 1).contiguous()
    return t.clone() if t.data_ptr() % 16 else t


def _poison(shape, dtype):
    return torch.full(shape, float("nan"), dtype=dtype)


class Emulated:
    def __init__(self, path):
        self.lib = ctypes.CDLL(str(path))

    def conv(self, x, offset, weight, bias, mask, stride, padding, dilation, path, grad=None, tf32=False,
             wanted=("input", "offset", "mask", "weight")):
        n, c, h, w = x.shape
        o, gi, kh, kw = weight.shape
        ho = (h + 2 * padding[0] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
        wo = (w + 2 * padding[1] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
        groups, dg = c // gi, offset.shape[1] // (2 * kh * kw)
        g = (n, c, h, w, o, ho, wo, kh, kw, *stride, *padding, *dilation, groups, dg)
        a = ConvOperands()
        a.geometry[:] = g
        a.dtype, a.offset_dtype = DTYPES[x.dtype], DTYPES[offset.dtype]
        a.path, a.allow_tf32 = {"plain": 0, "mma": 1, "wgmma": 2}[path], tf32
        keep = {"input": _last(x), "offset": offset.contiguous(), "weight": weight.contiguous(),
                "mask": None if mask is None else mask.contiguous(), "bias": bias}
        results = {}
        if grad is None:
            results["output"] = _poison((n, ho, wo, o), x.dtype)
        else:
            keep["grad_output"] = _last(grad)
            for name in wanted:
                if keep[name] is not None:
                    results["grad_" + name] = _poison(keep[name].shape, keep[name].dtype)
        for name, t in {**keep, **results}.items():
            setattr(a, name, None if t is None else t.data_ptr())
        if grad is None:
            assert self.lib.emulate_forward(ctypes.byref(a)) == 0
            return results["output"].permute(0, 3, 1, 2)
        if "bias" in wanted and bias is not None:
            assert self.lib.emulate_grad_bias(ctypes.byref(a)) == 0
        if "weight" in wanted:
            assert self.lib.emulate_grad_weight(ctypes.byref(a)) == 0
        if {"input", "offset", "mask"} & set(wanted):
            assert self.lib.emulate_sample_gradients(ctypes.byref(a)) == 0
        if "grad_input" in results:
            results["grad_input"] = results["grad_input"].permute(0, 3, 1, 2)
        return results


POOL_POINTERS = "input boxes offset mask output grad_output grad_input grad_offset grad_mask".split()
POOL_SIZES = "rois batch channels height width out_channels pooled_h pooled_w".split()


class PoolOperands(ctypes.Structure):
    _fields_ = [
        *[(name, ctypes.c_int64) for name in POOL_SIZES],
        *[(name, ctypes.c_double) for name in ("spatial_scale", "offset_scale")],
        *[(name, ctypes.c_int64) for name in ("sampling", "group_size", "part_size", "classes")],
        *[(name, ctypes.c_int32) for name in ("psroi", "dtype")],
        *[(name, ctypes.c_void_p) for name in POOL_POINTERS],
    ]


def pool(lib, x, rois, offset, mask, bins, scale, offset_scale, sampling, group, part, psroi, grad=None, wanted=()):
    n, c, h, w = x.shape
    o = c // group**2
    r = rois.shape[0]
    classes = offset.shape[1] // 2 if psroi and offset is not None else 1
    a = PoolOperands(r, n, c, h, w, o, *bins, scale, offset_scale, sampling, group, part, classes, psroi, DTYPES[x.dtype])
    cast = lambda t: None if t is None else t.to(x.dtype).contiguous()
    keep = {"input": _last(x), "boxes": cast(rois), "offset": cast(offset), "mask": cast(mask)}
    results = {}
    if grad is None:
        results["output"] = _poison((r, *bins, o), x.dtype)
    else:
        keep["grad_output"] = _last(grad)
        for name in wanted:
            if keep[name] is not None:
                results["grad_" + name] = _poison(keep[name].shape, x.dtype)
    for name, t in {**keep, **results}.items():
        setattr(a, name, None if t is None else t.data_ptr())
    if r == 0:
        if grad is None:
            return results["output"].permute(0, 3, 1, 2)
        return {k: torch.zeros_like(keep[k[5:]] if k != "grad_input" else x) for k in results}
    function = lib.emulate_pool if grad is None else lib.emulate_pool_backward
    assert function(ctypes.byref(a)) == 0
    if grad is None:
        return results["output"].permute(0, 3, 1, 2)
    if "grad_input" in results:
        results["grad_input"] = results["grad_input"].permute(0, 3, 1, 2)
    return results
