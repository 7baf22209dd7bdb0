# SPDX-License-Identifier: BSD-3-Clause
"""Loading of the compiled libraries, and what `dcnv2 doctor` reports about them."""

import dataclasses
import os
import re
import subprocess
import sys
import warnings

import pytest
import torch

from dcnv2 import doctor
from dcnv2.ops import fallback, library


@pytest.mark.parametrize(
    ("archs", "capability", "fits"),
    [
        ("8.0;9.0a", (8, 0), True),
        ("8.0;9.0a", (8, 6), True),  # a later minor version of the same major one
        ("8.6", (8, 0), False),
        ("8.0", (9, 0), False),
        ("8.0+PTX", (9, 0), True),  # compiled by the driver
        ("9.0+PTX", (8, 0), False),
        ("9.0a", (9, 0), True),
        ("9.0a", (10, 0), False),
        ("9.0a+PTX", (10, 0), False),
        ("10.0f", (10, 3), True),
        ("10.0f", (12, 0), False),
        ("12.0+PTX", (12, 1), True),
        ("unknown", (9, 0), False),
        ("", (9, 0), False),
    ],
)
def test_which_devices_a_list_of_architectures_serves(archs, capability, fits):
    reason = library.missing_arch(archs, capability)
    assert (reason is None) == fits
    if not fits:
        assert reason.startswith("no kernel image for compute capability")


def test_a_library_that_was_not_built_is_named(tmp_path):
    found = library.load("cpu", tmp_path)
    assert not found.loaded
    assert found.reason == "libdcnv2_cpu.so was not built"


def test_a_broken_library_leaves_its_error_and_fails_nothing(tmp_path):
    (tmp_path / "libdcnv2_cpu.so").write_bytes(b"no library")
    found = library.load("cpu", tmp_path)
    assert not found.loaded
    assert found.reason.startswith("libdcnv2_cpu.so did not load: ")
    assert "libdcnv2_cpu.so" in found.reason.split(": ", 1)[1]


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        ("12.8", "libdcnv2_cuda.so was built for CUDA 13, and this torch is of CUDA 12"),
        ("13.1", "libdcnv2_cuda.so did not load: "),
    ],
)
def test_a_library_of_another_cuda_is_refused(monkeypatch, tmp_path, own, reason):
    monkeypatch.setattr(torch.version, "cuda", own)
    monkeypatch.delenv("DCNV2_BACKEND", raising=False)
    (tmp_path / "libdcnv2_cuda.so").write_bytes(b"\x7fELF\0libc.so.6\0libcudart.so.13\0")
    found = library.load("cuda", tmp_path)
    assert not found.loaded
    assert found.reason.startswith(reason)


def test_the_cuda_of_a_built_library_is_read_from_its_file(tmp_path):
    path = library.LIBRARIES["cuda"].path
    if not path.is_file():
        pytest.skip(f"{path.name} was not built")
    assert library.cuda_major(path) == torch.version.cuda.split(".")[0]
    (tmp_path / "empty.so").touch()
    assert library.cuda_major(tmp_path / "empty.so") is None


@pytest.mark.parametrize("loaded", [False, True])
def test_the_portable_path_says_so_once_where_a_library_lacks(monkeypatch, tmp_path, loaded):
    missing = dataclasses.replace(library.load("cpu", tmp_path), loaded=loaded)
    monkeypatch.setitem(library.LIBRARIES, "cpu", missing)
    monkeypatch.setattr(library, "_warned", set())
    monkeypatch.delenv("DCNV2_BACKEND", raising=False)
    tensors = [torch.zeros(shape) for shape in ((1, 2, 3, 3), (1, 2, 3, 3), (1, 2, 1, 1))]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            fallback.KERNELS["deform_conv2d"](*tensors, None, None, [1, 1], [0, 0], [1, 1])
    texts = [str(warning.message) for warning in caught]
    assert [text for text in texts if "libdcnv2_cpu.so was not built" in text] == texts
    assert len(texts) == (0 if loaded else 1)


def _python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_backend_portable_loads_nothing():
    code = (
        "import torch, dcnv2.ops as ops\n"
        "assert not any(found.loaded for found in ops.library.LIBRARIES.values())\n"
        "print(ops.deform_conv2d(torch.ones(1, 1, 2, 2), torch.zeros(1, 2, 2, 2),"
        " torch.ones(1, 1, 1, 1)).sum().item())\n"
        "from dcnv2.doctor import report; print(report())"
    )
    result = _python(code, DCNV2_BACKEND="portable")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("4.0\n")
    assert "DCNV2_BACKEND=portable asks for the portable path" in result.stdout
    assert "unset it for the compiled kernels" in result.stdout


def test_an_unknown_backend_is_an_error(monkeypatch):
    monkeypatch.setenv("DCNV2_BACKEND", "fast")
    for device, found in library.LIBRARIES.items():  # loaded so when `dcnv2.ops` is imported
        with pytest.raises(ValueError, match="must be one of auto, portable, got 'fast'"):
            library.load(device, found.path.parent)


def test_report_names_every_operator_and_its_path_on_the_cpu():
    text = doctor.report()
    path = "compiled" if library.LIBRARIES["cpu"].loaded else "portable"
    for name in ("deform_conv2d", "deform_roi_pool", "deform_psroi_pool"):
        assert f"{name:<20}cpu     {path}" in text
    for dtype in ("float64", "float32", "float16", "bfloat16"):
        assert dtype in text
    assert re.search(r"^batched_nms +cpu +\w+ +float32 float64$", text, flags=re.MULTILINE)


@pytest.fixture
def missing(monkeypatch):
    """Pretend that neither library was built."""
    for device, found in library.LIBRARIES.items():
        gone = dataclasses.replace(
            found, loaded=False, reason=f"{found.path.name} was not built", info={}
        )
        monkeypatch.setitem(library.LIBRARIES, device, gone)
    monkeypatch.setattr(
        doctor.torch._C, "_dispatch_has_kernel_for_dispatch_key", lambda name, key: False
    )


def test_report_says_how_to_get_what_was_not_built(missing):
    text = doctor.report()
    assert "cpu: libdcnv2_cpu.so was not built: install a C++ compiler, then rebuild" in text
    assert "deform_conv2d       cpu     portable" in text
    assert "The portable path is several times slower" in text


@pytest.mark.parametrize(
    ("cuda", "hip", "available", "state"),
    [
        (None, None, False, "none: torch is built without CUDA"),
        (None, "6.4", True, "none: torch is built for ROCm 6.4"),
        ("13.0", None, False, "13.0, but no device: torch sees no GPU or no driver"),
    ],
)
def test_no_cuda_and_no_device_are_distinguished(monkeypatch, cuda, hip, available, state):
    monkeypatch.setattr(doctor.torch.version, "cuda", cuda)
    monkeypatch.setattr(doctor.torch.version, "hip", hip)
    monkeypatch.setattr(doctor.torch.cuda, "is_available", lambda: available)
    assert doctor._cuda_state() == state


def test_a_device_without_a_kernel_image_is_reported(monkeypatch):
    loaded = library.Library("cuda", library.FOLDER / "libdcnv2_cuda.so", True,
                             info={"arch_list": "9.0a"})  # fmt: skip
    monkeypatch.setitem(library.LIBRARIES, "cuda", loaded)
    (note,) = doctor._device_notes(doctor.Device("cuda", "Some GPU", (8, 6)))
    assert "no kernel image for compute capability 8.6 among 9.0a" in note
    assert "TORCH_CUDA_ARCH_LIST=8.6" in note
    assert doctor._device_notes(doctor.Device("cuda", "Some GPU", (9, 0))) == []


@pytest.mark.parametrize(
    ("archs", "capability", "coverage"),
    [
        ("8.0;9.0a;9.0+PTX", (9, 0), ", covered by machine code"),
        ("8.0+PTX", (9, 0), ", covered by PTX, which the driver compiles on first use"),
        ("8.0", (9, 0), ", not covered by the library"),
    ],
)
def test_a_device_is_listed_with_its_coverage(monkeypatch, archs, capability, coverage):
    loaded = library.Library("cuda", library.FOLDER / "libdcnv2_cuda.so", True,
                             info={"arch_list": archs})  # fmt: skip
    monkeypatch.setitem(library.LIBRARIES, "cuda", loaded)
    device = doctor.Device("cuda", "Some GPU", capability)
    text = doctor.render(doctor.Diagnosis((device,), "13.0", (), (), ()))
    major, minor = capability
    line = f"device     cuda: Some GPU, compute capability {major}.{minor}{coverage}"
    assert line in text.splitlines()


def test_what_the_build_skipped_is_listed_with_its_reason(missing, monkeypatch, tmp_path):
    found = library.load("cpu", tmp_path)
    monkeypatch.setitem(library.LIBRARIES, "cpu", found)
    (tmp_path / "skipped.json").write_text('{"cpu": "no compiler: install one", "cuda": "none"}')
    text = doctor.report()
    reason = "libdcnv2_cpu.so was not built: no compiler: install one"
    assert f"library    cpu: not loaded: {reason}" in text
    assert f"cpu: {reason}; then rebuild (pip install -e . in a checkout)." in text


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_stale_library_is_reported(monkeypatch, device):
    monkeypatch.setattr(doctor, "is_current", lambda built, device: built == f"{device} now")
    monkeypatch.setattr(doctor, "csrc_digest", lambda library: f"{library} now")

    def notes(csrc):
        path = library.FOLDER / f"libdcnv2_{device}.so"
        return doctor._library_notes(library.Library(device, path, True, info={"csrc": csrc}))

    (note,) = notes("old")
    assert f"built from csrc old, now {device} now: rebuild" in note
    assert notes(f"{device} now") == notes("unknown") == []
