# SPDX-License-Identifier: BSD-3-Clause
"""Builds mmcv's deformable operators for the installed torch from mmcv's source package.

    pip download --no-deps --no-binary :all: mmcv    # no wheel is published for today's torch
    pip install mmengine
    python -m suites.peers.build_mmcv mmcv-2.2.0.tar.gz FOLDER
    PYTHONPATH=FOLDER pytest suites/perf --impl dcnv2,mmcv --report=OUT
    PYTHONPATH=FOLDER pytest suites/correctness --backend mmcv --report OUT

It compiles three operators in minutes, while mmcv's own build compiles all of its seventy. The
Python part of the package in FOLDER/mmcv is unchanged; an operator that was not built raises when
it is called. CUDA kernels are built for TORCH_CUDA_ARCH_LIST if torch has CUDA and there is a
toolkit. The extension does not use the Python API, so it works with every version of Python.
"""

import argparse
import re
import shutil
import tarfile
import tempfile
from pathlib import Path

import torch
from torch.utils import cpp_extension

FUNCTIONS = (
    "deform_conv_forward",
    "deform_conv_backward_input",
    "deform_conv_backward_parameters",
    "modulated_deform_conv_forward",
    "modulated_deform_conv_backward",
    "deform_roi_pool_forward",
    "deform_roi_pool_backward",
)
_WIDE = {"Tensor": "Tensor", "int": "int64_t", "bool": "bool", "float": "double"}
_HEADERS = '#include <torch/library.h>\n#include "pytorch_cpp_helper.hpp"\n'
_EXTENSION = '''\
"""The operators that were built; any other one raises when it is called."""

from pathlib import Path

import torch

torch.ops.load_library(str(Path(__file__).with_name("{library}")))
_ARGUMENTS = {arguments!r}


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    names = _ARGUMENTS.get(name)

    def call(*args, **kwargs):
        if names is None:
            raise RuntimeError(f"mmcv's {{name}} was not built")
        operator = getattr(torch.ops.mmcv_deform, name).default
        return operator(*args, *(kwargs[key] for key in names[len(args) :]))

    return call
'''


def parameters(declarations: str, function: str) -> list[tuple[str, str]]:
    """The (type, name) pairs of the parameters of a function that a C++ text declares."""
    found = re.search(rf"^void {function}\((.*?)\);", declarations, re.DOTALL | re.MULTILINE)
    if not found:
        raise ValueError(f"mmcv's pybind.cpp declares no {function}")
    words = [word.replace("const ", "").split() for word in found[1].split(",")]
    return [(kind, name) for kind, name in words]


def binding(declarations: str) -> str:
    """C++ that registers the functions with torch and replaces mmcv's pybind module."""
    declared, registered = [], []
    for function in FUNCTIONS:
        pairs = parameters(declarations, function)
        declared.append(f"void {function}({', '.join(' '.join(pair) for pair in pairs)});")
        wide = ", ".join(f"{_WIDE[kind]} {name}" for kind, name in pairs)
        narrow = ", ".join(f"({kind}){name}" for kind, name in pairs)
        registered.append(f'  m.def("{function}", []({wide}) {{ {function}({narrow}); }});')
    library = "TORCH_LIBRARY(mmcv_deform, m) {\n" + "\n".join(registered) + "\n}\n"
    return _HEADERS + "\n".join(declared) + "\n" + library


def device_binding(text: str) -> str:
    """The parts of mmcv's cudabind.cpp that declare, define or register these functions."""
    named = r"(?:(?:modulated_)?deformable_(?:im2col|col2im)|deform_?roi_?pool)"
    wanted = rf"^(?:void|REGISTER_DEVICE_IMPL)[ (]{named}[^;{{]*(?:;|\{{.*?\}}$)"
    statements = re.findall(wanted, text, re.DOTALL | re.MULTILINE | re.IGNORECASE)
    headers = ("pytorch_cpp_helper.hpp", "pytorch_device_registry.hpp")
    return "\n".join([*(f'#include "{name}"' for name in headers), *statements]) + "\n"


def _cuda_headers() -> list[Path]:
    """Headers of pip's CUDA libraries: a small toolkit may lack those of cuSPARSE."""
    return sorted(Path(torch.__file__).parents[1].glob("nvidia/cu*/include"))


def build(package: Path, folder: Path, cuda: bool) -> None:
    """Compile the extension into `package`/mmcv, the unpacked Python part, and write _ext.py."""
    csrc = package / "mmcv/ops/csrc"
    pytorch = csrc / "pytorch"
    declarations = (pytorch / "pybind.cpp").read_text()
    (folder / "binding.cpp").write_text(binding(declarations))
    names = ("deform_conv", "modulated_deform_conv", "deform_roi_pool")
    sources = [folder / "binding.cpp", *(pytorch / f"{name}.cpp" for name in names)]
    sources += [pytorch / f"cpu/{name}.cpp" for name in names[:2]]  # pooling exists only on a GPU
    flags = ["-O3", *(["-DMMCV_WITH_CUDA"] if cuda else [])]
    if cuda:
        found = device_binding((pytorch / "cuda/cudabind.cpp").read_text())
        (folder / "device_binding.cpp").write_text(found)
        cuda_sources = [pytorch / f"cuda/{name}_cuda.cu" for name in names]
        sources += [folder / "device_binding.cpp", *cuda_sources]
    # Objects are named by their sources, so sources of one name are renamed.
    copies = []
    for index, source in enumerate(sources):
        copies.append(folder / f"{index}_{source.name}")
        copies[-1].write_bytes(source.read_bytes())
    cpp_extension.load(
        "mmcv_deform",
        [str(path) for path in copies],
        extra_include_paths=[*map(str, (csrc / "common", csrc / "common/cuda", *_cuda_headers()))],
        extra_cflags=flags,
        extra_cuda_cflags=[*flags, "-w"],
        build_directory=str(folder),
        with_cuda=cuda,
        is_python_module=False,
    )
    (library,) = folder.glob("mmcv_deform*.so")
    (package / "mmcv" / library.name).write_bytes(library.read_bytes())
    arguments = {name: [pair[1] for pair in parameters(declarations, name)] for name in FUNCTIONS}
    text = _EXTENSION.format(library=library.name, arguments=arguments)
    (package / "mmcv/_ext.py").write_text(text)


def main() -> None:
    """Unpack the source package and build."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="mmcv's source package, a .tar.gz")
    parser.add_argument("folder", type=Path, help="where to write mmcv/")
    args = parser.parse_args()
    cuda = torch.version.cuda is not None and cpp_extension.CUDA_HOME is not None
    args.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as unpacked, tempfile.TemporaryDirectory() as objects:
        with tarfile.open(args.source) as archive:
            archive.extractall(unpacked, filter="data")
        (package,) = Path(unpacked).iterdir()
        build(package, Path(objects), cuda)
        for name in ("mmcv", "mmcv.egg-info"):  # importlib.metadata reads the version in it
            shutil.move(package / name, args.folder / name)
    print(f"{args.folder / 'mmcv'}: for {'CPU and CUDA' if cuda else 'the CPU'}")


if __name__ == "__main__":
    main()
