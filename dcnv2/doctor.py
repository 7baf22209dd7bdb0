# SPDX-License-Identifier: BSD-3-Clause
"""`dcnv2 doctor`: the path that each operator takes on each device, and why it is not faster."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass

import torch

import dcnv2

from .csrc_digest import csrc_digest, is_current
from .ops import checks, library, nms, schema

REBUILD = "pip install -e . in a checkout"
PORTABLE_COST = (
    "The portable path is several times slower than compiled kernels: it is made of PyTorch "
    "operators, each of which reads and writes every sampled value in memory."
)
_KEYS = {"cpu": "CPU", "cuda": "CUDA"}


@dataclass(frozen=True)
class Device:
    """A device that torch finds.

    Attributes:
        type: torch's name of its type.
        name: what the device is called.
        capability: the compute capability of a CUDA device.
    """

    type: str
    name: str
    capability: tuple[int, int] | None = None


@dataclass(frozen=True)
class Route:
    """The path that an operator takes on a type of device.

    Attributes:
        operator: its name.
        device: the type of device.
        dtypes: the dtypes that take this path.
        path: "compiled" or "portable"; for convolutions on CUDA a name from `library.conv_path`.
        advice: a sentence that says why the path is not faster and how to get a faster one; empty
            for the fastest.
    """

    operator: str
    device: str
    dtypes: tuple[str, ...]
    path: str
    advice: str


@dataclass(frozen=True)
class Diagnosis:
    """Everything that the report says.

    Attributes:
        devices: the devices that torch finds.
        cuda: the state of CUDA, a clause.
        libraries: the compiled libraries, loaded or not.
        notes: sentences about what is wrong or stale.
        routes: the path of each operator on each type of device.
    """

    devices: tuple[Device, ...]
    cuda: str
    libraries: tuple[library.Library, ...]
    notes: tuple[str, ...]
    routes: tuple[Route, ...]


def report() -> str:
    """Return what `dcnv2 doctor` prints."""
    return render(diagnose())


def diagnose() -> Diagnosis:
    """Inspect torch, the devices and the libraries; ask the dispatcher for each operator's path."""
    devices = _devices()
    notes = [note for device in devices for note in _device_notes(device)]
    notes += [note for found in library.LIBRARIES.values() for note in _library_notes(found)]
    device_types = list(dict.fromkeys(device.type for device in devices))
    routes = [_route(op, device) for device in device_types for op in _operators()]
    routes = [r for route in routes for r in _by_kernels(route, devices)]
    if any(route.path == "portable" for route in routes):
        notes.append(PORTABLE_COST)
    return Diagnosis(
        devices, _cuda_state(), tuple(library.LIBRARIES.values()), tuple(notes), tuple(routes)
    )


def _by_kernels(route: Route, devices: tuple[Device, ...]) -> list[Route]:
    """Split the route of a compiled convolution on CUDA by dtype: each may take other kernels."""
    capability = next((d.capability for d in devices if d.type == route.device), None)
    if route.path != "compiled" or route.operator != "deform_conv2d" or capability is None:
        return [route]
    found = []
    for dtype in route.dtypes:
        path, reason = library.conv_path(dtype, capability)
        advice = f"{dtype}: {reason}." if reason else ""
        found.append(Route(route.operator, route.device, (dtype,), path, advice))
    return found


def _operators() -> list[str]:
    return [name for name in schema.SCHEMAS if not name.endswith("_backward")]


def _devices() -> tuple[Device, ...]:
    instructions = torch.backends.cpu.get_cpu_capability()
    cpu = f"{platform.machine()}, {instructions}, {torch.get_num_threads()} thread(s)"
    devices = [Device("cpu", cpu)]
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            name, capability = torch.cuda.get_device_name(index), None
            if torch.version.cuda is not None:
                capability = torch.cuda.get_device_capability(index)
            devices.append(Device("cuda", name, capability))
    other = torch.accelerator.current_accelerator(check_available=True)
    if other is not None and other.type != "cuda":
        devices.append(Device(other.type, f"{torch.accelerator.device_count()} device(s)"))
    return tuple(devices)


def _cuda_state() -> str:
    if torch.version.hip is not None:
        return f"none: torch is built for ROCm {torch.version.hip}"
    if torch.version.cuda is None:
        return "none: torch is built without CUDA"
    if not torch.cuda.is_available():
        return f"{torch.version.cuda}, but no device: torch sees no GPU or no driver"
    return f"{torch.version.cuda}, {torch.cuda.device_count()} device(s)"


def _device_notes(device: Device) -> list[str]:
    found = library.LIBRARIES.get(device.type)
    if found is None or not found.loaded or device.capability is None:
        return []
    why = library.missing_arch(found.info.get("arch_list", ""), device.capability)
    if why is None:
        return []
    version = ".".join(str(part) for part in device.capability)
    return [
        f"{device.name}: {why}, so CUDA calls fail; rebuild with TORCH_CUDA_ARCH_LIST={version} "
        f"({REBUILD}), or set DCNV2_BACKEND=portable."
    ]


def _library_notes(found: library.Library) -> list[str]:
    built = found.info.get("csrc", "unknown")
    if not found.loaded or built == "unknown":
        return []
    try:
        if is_current(built, found.device):
            return []
        current = csrc_digest(library=found.device)
    except FileNotFoundError:  # installed from a wheel: there are no sources to compare with
        return []
    return [f"{found.path.name} was built from csrc {built}, now {current}: rebuild ({REBUILD})."]


def _route(operator: str, device: str) -> Route:
    supported = nms.DTYPES if operator == "batched_nms" else checks.DTYPES
    dtypes = tuple(str(dtype).removeprefix("torch.") for dtype in supported)
    key = _KEYS.get(device)
    compiled = key is not None and all(
        torch._C._dispatch_has_kernel_for_dispatch_key(f"dcnv2::{name}", key)
        for name in (operator, operator + "_backward")
        if name in schema.SCHEMAS
    )
    if compiled:
        return Route(operator, device, dtypes, "compiled", "")
    return Route(operator, device, dtypes, "portable", _advice(operator, device))


def _advice(operator: str, device: str) -> str:
    found = library.LIBRARIES.get(device)
    if found is None or (device == "cuda" and torch.version.cuda is None):
        return f"There is no compiled library for {device} devices, only the portable path."
    if found.loaded:
        return f"{found.path.name} has no {operator}: rebuild it ({REBUILD})."
    if library.backend() == "portable":
        return "DCNV2_BACKEND=portable is set; unset it for the compiled kernels."
    if _skipped(found):
        return f"{_reason(found)}; then rebuild ({REBUILD})."
    needs = "a C++ compiler" if device == "cpu" else "the CUDA toolkit of torch's major version"
    return f"{found.reason}: install {needs}, then rebuild ({REBUILD})."


def _skipped(found: library.Library) -> str:
    """Why the last build left a library out, as setup.py recorded it; empty if it did not."""
    if found.path.is_file():
        return ""
    try:
        reasons = json.loads(found.path.with_name("skipped.json").read_text())
    except (OSError, ValueError):
        return ""
    return str(reasons.get(found.device, ""))


def _reason(found: library.Library) -> str:
    """Why a library is not loaded, with the build's reason where it was not built."""
    return f"{found.reason}: {skipped}" if (skipped := _skipped(found)) else found.reason


def render(diagnosis: Diagnosis) -> str:
    """Write a diagnosis as text."""
    lines = [
        f"dcnv2      {dcnv2.__version__}",
        f"torch      {torch.__version__}, Python {platform.python_version()}",
        f"CUDA       {diagnosis.cuda}",
    ]
    for device in diagnosis.devices:
        capability = device.capability
        text = "" if capability is None else f", compute capability {capability[0]}.{capability[1]}"
        lines.append(f"device     {device.type}: {device.name}{text}{_coverage(device)}")
    for found in diagnosis.libraries:
        lines.append(f"library    {found.device}: {_state(found)}")
    lines += ["", f"{'operator':<20}{'device':<8}{'path':<29}dtypes"]
    for route in diagnosis.routes:
        dtypes = " ".join(route.dtypes)
        lines.append(f"{route.operator:<20}{route.device:<8}{route.path:<29}{dtypes}")
    advice = {(r.device, r.advice) for r in diagnosis.routes if r.advice}
    ends = [f"{device}: {text}" for device, text in sorted(advice)] + list(diagnosis.notes)
    return "\n".join([*lines, *([""] if ends else []), *ends])


def _coverage(device: Device) -> str:
    """Whether the CUDA library holds code for a device: a clause, empty where there is none."""
    found = library.LIBRARIES.get(device.type)
    if device.capability is None or found is None or not found.loaded:
        return ""
    archs = found.info.get("arch_list", "")
    if library.missing_arch(archs, device.capability):
        return ", not covered by the library"
    machine_code = archs.replace("+PTX", "")
    if library.missing_arch(machine_code, device.capability):
        return ", covered by PTX, which the driver compiles on first use"
    return ", covered by machine code"


def _state(found: library.Library) -> str:
    if not found.loaded:
        return f"not loaded: {_reason(found)}"
    details = [f"{name} {value}" for name, value in found.info.items() if name != "library"]
    return ", ".join([f"loaded from {found.path}", *details])
