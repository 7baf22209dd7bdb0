# SPDX-License-Identifier: BSD-3-Clause
"""The table of kernels: names a person can read, shares that add up."""

import pytest

from suites.perf import kernels
from suites.perf.layers import Layer


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        (
            "void dcnv2::cuda::(anonymous namespace)::forward_kernel<dcnv2::cuda::Wgmma"
            "<__nv_bfloat16, 128, 128>, true>(dcnv2::cuda::ForwardArgs)",
            "forward_kernel<Wgmma<__nv_bfloat16, 128, 128>, true>",
        ),
        ("Memset (Device)", "Memset"),
        ("dcnv2::deform_conv2d", "deform_conv2d"),
    ],
)
def test_names_lose_namespaces_and_arguments(symbol, name):
    assert kernels.kernel_name(symbol) == name


def test_a_layer_is_split_into_its_kernels():
    layer = Layer("tiny", "none", 1, 8, 8, 6, 7)
    table = kernels.measure([layer], "dcnv2", "fp32", "cpu")
    assert {"deform_conv2d", "deform_conv2d_backward"} <= set(table.kernel)
    assert table.share.sum() == pytest.approx(1)
    assert list(table.us) == sorted(table.us, reverse=True)
