# SPDX-License-Identifier: BSD-3-Clause
"""Reports have their provenance, stale ones are marked, and README quotes them faithfully."""

import re
from pathlib import Path

import pandas as pd
import pytest
import torch

from build_support.libraries import plan
from dcnv2.csrc_digest import csrc_digest, is_current
from dcnv2.ops.library import LIBRARIES, Library
from suites.reporting import provenance
from suites.reporting.folders import CSRC, ROOT, gpu_slug
from suites.reporting.index import index_text
from suites.reporting.pages import STALE, fill_page
from suites.reporting.provenance import PROVENANCE, is_stale, read_provenance
from suites.reporting.report import write_report
from suites.reporting.tables import markdown_table

ORIGIN = dict.fromkeys(PROVENANCE, "x") | {"command": "run a|b", "cpu": "CPU, 2 cores"}
ROWS = pd.DataFrame({"layer": ["a", "b"], "ms": [1.23456, float("nan")]})


@pytest.fixture
def make_report(tmp_path):
    def make(**origin):
        return write_report(
            "speed", ROWS, title="Speed", headline=ROWS, directory=tmp_path, origin=ORIGIN | origin
        )

    return make


def test_both_files_give_their_origin_back(make_report):
    report = make_report()
    assert read_provenance(report) == ORIGIN
    assert read_provenance(report.with_suffix(".csv")) == ORIGIN


def test_csv_keeps_every_row(make_report):
    table = pd.read_csv(make_report().with_suffix(".csv"))
    pd.testing.assert_frame_equal(table[["layer", "ms"]], ROWS)


def test_report_is_stale_once_sources_differ(make_report):
    assert is_stale(make_report(csrc_digest="000000000000"))
    assert not is_stale(make_report(csrc_digest=csrc_digest()))


@pytest.mark.parametrize(("gpu", "library"), [("none", "cpu"), ("NVIDIA H200", "cuda")])
def test_report_is_of_the_library_that_its_machine_used(make_report, gpu, library):
    other = "cuda" if library == "cpu" else "cpu"
    assert not is_stale(make_report(gpu=gpu, csrc_digest=csrc_digest(library=library)))
    assert is_stale(make_report(gpu=gpu, csrc_digest=csrc_digest(library=other)))


@pytest.mark.parametrize("gpu", ["none", "NVIDIA H200"])
def test_digest_is_of_the_library_that_is_measured(monkeypatch, gpu):
    device = "cpu" if gpu == "none" else "cuda"
    monkeypatch.setattr(provenance, "_gpu", lambda: (gpu, "580"))
    built = Library(device, Path("a.so"), True, info={"csrc": "abc"})
    monkeypatch.setitem(LIBRARIES, device, built)
    assert provenance.provenance()["csrc_digest"] == "abc"
    monkeypatch.setitem(LIBRARIES, device, Library(device, Path("a.so"), False))
    assert provenance.provenance()["csrc_digest"] == csrc_digest(library=device)


def test_report_without_an_origin_is_stale(tmp_path):
    report = tmp_path / "old.md"
    report.write_text("# Old\n")
    assert is_stale(report)


def test_index_says_which_reports_are_stale(make_report, tmp_path):
    make_report(csrc_digest="000000000000")
    line = next(line for line in index_text(tmp_path).splitlines() if "speed.md" in line)
    assert "**stale**" in line
    make_report(csrc_digest=csrc_digest())
    assert "**stale**" not in index_text(tmp_path)


def test_readme_gets_the_headline_and_its_origin(make_report, tmp_path):
    make_report()
    text = "before\n<!-- report: speed -->\nlast week\n<!-- end -->\nafter\n"
    filled = fill_page(text, tmp_path)
    assert markdown_table(ROWS) in filled
    assert "`run a|b`" in filled
    assert "last week" not in filled
    assert fill_page(filled, tmp_path) == filled


def test_pages_mark_figures_of_older_kernels(make_report, tmp_path):
    column = ROWS.columns[0]
    text = f"<!-- report: speed -->\n<!-- end -->\n<!-- cell: speed; {column} --><!-- end -->\n"
    make_report(csrc_digest="000000000000")
    assert fill_page(text, tmp_path).lower().count("stale") == 2
    assert f"speed.md) {STALE}." in fill_page(text, tmp_path)
    make_report(csrc_digest=csrc_digest())
    assert "stale" not in fill_page(text, tmp_path).lower()


def test_readme_gets_single_figures(make_report, tmp_path):
    make_report(csrc_digest=csrc_digest())
    line = markdown_table(ROWS).splitlines()[-1]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    name = f"speed; {cells[0]}; {ROWS.columns[-1]}"
    filled = fill_page(f"a <!-- cell: {name} -->old<!-- end --> b\n", tmp_path)
    assert filled == f"a <!-- cell: {name} -->{cells[-1]}<!-- end --> b\n"
    missing = "<!-- cell: speed; no such row; no such column -->not measured<!-- end -->"
    assert fill_page(missing, tmp_path) == missing


def test_readme_shows_a_picture_once_there_is_one(tmp_path):
    text = "<!-- picture: a.png, what it shows -->\n<!-- end -->\n"
    assert fill_page(text, tmp_path) == text
    (tmp_path / "a.png").touch()
    assert f"![what it shows]({tmp_path.name}/a.png)\n" in fill_page(text, tmp_path)


def test_readme_says_what_is_not_measured(tmp_path):
    text = "<!-- report: speed -->\n<!-- end -->\n"
    assert "Not measured yet." in fill_page(text, tmp_path)


def test_readme_needs_a_headline(tmp_path):
    write_report("speed", ROWS, title="Speed", directory=tmp_path, origin=ORIGIN)
    with pytest.raises(ValueError, match="no headline"):
        fill_page("<!-- report: speed -->\n<!-- end -->\n", tmp_path)


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("NVIDIA H200", "h200"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("Tesla V100-SXM2-32GB", "v100"),
    ],
)
def test_gpu_names_become_folders(name, slug):
    assert gpu_slug(name) == slug


def test_command_shows_no_local_path(monkeypatch, tmp_path):
    words = [
        str(tmp_path / "bin/python3"),
        str(tmp_path / "bin/pytest"),
        str(ROOT / "suites/perf"),
        f"--report={tmp_path / 'out'}",
    ]
    monkeypatch.setattr("sys.orig_argv", words)
    assert provenance.provenance()["command"] == "pytest suites/perf --report=out"


@pytest.mark.parametrize("touched", [False, True])
def test_the_gpu_is_named_without_touching_it(monkeypatch, touched):
    class Done:
        stdout = "NVIDIA A, 580.1\nNVIDIA B, 580.1\n"

    def name():
        assert touched
        return "NVIDIA B"

    monkeypatch.setattr(torch.cuda, "is_available", lambda: pytest.fail("it asks the driver"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: touched)
    monkeypatch.setattr(torch.cuda, "get_device_name", name)
    monkeypatch.setattr(provenance.subprocess, "run", lambda *_, **__: Done)
    assert provenance._gpu() == ("NVIDIA B" if touched else "NVIDIA A", "580.1")


@pytest.mark.slow
def test_libraries_are_built_with_the_digests_of_their_own_sources():
    planned, _ = plan(ROOT, csrc_digest)
    for library in planned:
        own = csrc_digest(CSRC, library.name.removeprefix("dcnv2_"))
        assert own in library.info_flags[0]


class TestDigest:
    @pytest.fixture
    def folder(self, tmp_path):
        (tmp_path / "cpu").mkdir()
        (tmp_path / "cpu/a.cpp").write_text("int a;")
        (tmp_path / "b.h").write_text("int b;")
        return tmp_path

    def test_is_twelve_digits_and_repeats(self, folder):
        assert len(csrc_digest(folder)) == 12
        assert csrc_digest(folder) == csrc_digest(folder)

    def test_changes_with_a_name_and_with_content(self, folder):
        digests = {csrc_digest(folder)}
        (folder / "b.h").rename(folder / "c.h")
        digests.add(csrc_digest(folder))
        (folder / "c.h").write_text("int c;")
        digests.add(csrc_digest(folder))
        assert len(digests) == 3

    @pytest.mark.parametrize(
        "same",
        [
            "int  b ;\n",
            "// of both\nint /* a number */ b;",
            "int b; // 'one' \"two\"",
            "\n\nint\n\nb;",
        ],
    )
    def test_ignores_comments_and_white_space(self, folder, same):
        before = csrc_digest(folder)
        (folder / "b.h").write_text(same)
        assert csrc_digest(folder) == before

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("int b = 3;", "int b = 4;"),
            ('auto b = "a b";', 'auto b = "a  b";'),
            ('auto b = "// a";', 'auto b = "";'),
            ('auto b = R"(/* a */)";', 'auto b = R"()";'),
            ("auto b = 1'000;", "auto b = 1'001; // '"),
            ("b = a - -c;", "b = a --c;"),
            ("#define A\nB", "#define A B"),
            ('#include "x.h"', '#include "y.h"'),
            ("#include <cpu/x.h>", "#include <x.h>"),
        ],
    )
    def test_changes_with_every_token(self, folder, old, new):
        (folder / "b.h").write_text(old)
        before = csrc_digest(folder)
        (folder / "b.h").write_text(new)
        assert csrc_digest(folder) != before

    def test_ignores_the_folder_of_a_file(self, folder):
        (folder / "cpu/a.cpp").write_text('#include "b.h"')
        before = csrc_digest(folder)
        (folder / "cpu/conv").mkdir()
        (folder / "cpu/a.cpp").unlink()
        (folder / "cpu/conv/a.cpp").write_text('#include "../common/b.h"')
        assert csrc_digest(folder) == before

    def test_ignores_what_is_not_source(self, folder):
        before = csrc_digest(folder)
        (folder / "notes.txt").write_text("x")
        assert csrc_digest(folder) == before

    def test_of_a_library_changes_with_its_own_sources_and_with_shared_ones(self, folder):
        (folder / "cuda").mkdir()
        (folder / "cuda/a.cu").write_text("int a;")
        cpu, cuda = csrc_digest(folder, "cpu"), csrc_digest(folder, "cuda")
        (folder / "cuda/a.cu").write_text("int b;")
        assert csrc_digest(folder, "cpu") == cpu
        assert csrc_digest(folder, "cuda") != cuda
        assert is_current(cpu, "cpu", folder)
        assert not is_current(cuda, "cuda", folder)
        (folder / "b.h").write_text("int c;")
        assert csrc_digest(folder, "cpu") != cpu

    @pytest.mark.parametrize(("library", "other"), [("cpu", "cuda"), ("cuda", "cpu")])
    def test_library_includes_nothing_of_the_other(self, library, other):
        for source in (ROOT / "csrc" / library).rglob("*.*"):
            for name in re.findall(r'#include "(.+)"', source.read_text()):
                assert (CSRC / name).is_file(), f"{source}: {name}"
                assert not name.startswith(f"{other}/"), source

    def test_needs_sources(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="no C\\+\\+ or CUDA sources"):
            csrc_digest(tmp_path / "none")
