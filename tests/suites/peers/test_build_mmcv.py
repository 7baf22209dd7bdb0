# SPDX-License-Identifier: BSD-3-Clause
"""The bindings for mmcv's sources have every argument and no other operator."""

from types import SimpleNamespace

import pytest
import torch

from suites.peers import build_mmcv

_DECLARED = "\n".join(
    f"void {name}(Tensor input, const int kW,\n    const bool with_bias, float scale);"
    for name in build_mmcv.FUNCTIONS
)
_DEVICE = """
void deformable_im2col_cuda(Tensor a,
                            int b);
void ms_deform_attn_impl(Tensor a);
void NMSRotatedForward(Tensor a) {
  deformable(a);
}
void DeformRoIPoolForwardCUDAKernelLauncher(Tensor a);
void deform_roi_pool_forward_cuda(Tensor a) {
  DeformRoIPoolForwardCUDAKernelLauncher(a);
}
REGISTER_DEVICE_IMPL(deformable_im2col_impl, CUDA, deformable_im2col_cuda);
REGISTER_DEVICE_IMPL(modulated_deformable_col2im_coord_impl, CUDA,
                     modulated_deformable_col2im_coord_cuda);
REGISTER_DEVICE_IMPL(nms_impl, CUDA, nms_cuda);
"""


def test_a_binding_widens_types_that_torch_does_not_support():
    text = build_mmcv.binding(_DECLARED)
    assert (
        'm.def("deform_conv_forward", [](Tensor input, int64_t kW, bool with_bias, double scale) '
        "{ deform_conv_forward((Tensor)input, (int)kW, (bool)with_bias, (float)scale); });"
    ) in text
    assert text.count("m.def(") == text.count("\nvoid ") == len(build_mmcv.FUNCTIONS)


def test_only_deformable_operators_are_registered_with_devices():
    text = build_mmcv.device_binding(_DEVICE)
    assert text.count("REGISTER_DEVICE_IMPL") == 2
    assert text.count("void ") == 3
    assert "  DeformRoIPoolForwardCUDAKernelLauncher(a);\n}\n" in text
    assert "nms" not in text.lower()
    assert "ms_deform" not in text


def test_the_extension_orders_keywords_and_rejects_operators_that_were_not_built(monkeypatch):
    names = {"__file__": __file__, "__name__": "extension"}
    monkeypatch.setattr(torch.ops, "load_library", lambda path: None)
    known = SimpleNamespace(default=lambda *args: args)
    monkeypatch.setattr(torch.ops, "mmcv_deform", SimpleNamespace(known=known), raising=False)
    text = build_mmcv._EXTENSION.format(library="none.so", arguments={"known": ["a", "b", "c"]})
    exec(compile(text, "_ext.py", "exec"), names)
    get = names["__getattr__"]
    assert get("known")(1, c=3, b=2) == (1, 2, 3)
    with pytest.raises(RuntimeError, match="mmcv's other was not built"):
        get("other")()
