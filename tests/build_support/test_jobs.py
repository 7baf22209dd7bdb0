# SPDX-License-Identifier: BSD-3-Clause
"""Compilations run when something changed, and not otherwise."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from build_support.jobs import Job, Progress, max_jobs, run


@pytest.fixture
def sources(tmp_path):
    """A source that includes a header, in a folder whose name has a space."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    (folder / "value.h").write_text("#define VALUE 1\n")
    (folder / "value.cpp").write_text('#include "value.h"\nint value() { return VALUE; }\n')
    return folder


def _job(sources, build, *flags):
    source = sources / "value.cpp"
    command = ["c++", *flags, "-c", str(source)]
    return Job("value.cpp", command, build, Path("objects/value.o"), [source], "-MMD")


def _made(job):
    return job.folder / job.target


def test_a_job_is_current_until_a_source_a_header_or_the_command_changes(sources, tmp_path):
    job = _job(sources, tmp_path)
    assert not job.is_current()
    run([job], Progress())
    assert job.is_current()
    assert not _job(sources, tmp_path, "-O1").is_current()
    for name in ("value.cpp", "value.h"):
        with (sources / name).open("a") as source:
            source.write("// changed\n")
        os.utime(sources / name, ns=(1, 1))  # as a copy that keeps the times of what it copies
        assert not job.is_current()
        run([job], Progress())
        assert job.is_current()
    (sources / "value.h").unlink()
    assert not job.is_current()


def test_a_source_that_changes_while_it_is_compiled_is_compiled_again(sources, tmp_path):
    job = _job(sources, tmp_path)
    changed = replace(job, command=["sh", "-c", 'c++ "$@" && touch "$2"', *job.command])
    run([changed], Progress())
    assert not changed.is_current()
    run([job], Progress())
    assert job.is_current()


def test_what_was_only_copied_or_touched_stays_current(sources, tmp_path):
    job = _job(sources, tmp_path)
    run([job], Progress())
    (sources / "value.h").touch()
    assert job.is_current()


def test_a_copied_folder_of_objects_stays_current(sources, tmp_path):
    (tmp_path / "first").mkdir()
    run([_job(sources, tmp_path / "first")], Progress())
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    assert _job(sources, tmp_path / "second").is_current()


def test_a_failure_names_the_source_and_holds_the_compiler_s_words(sources, tmp_path):
    (sources / "value.h").write_text("#error no value here\n")
    job = _job(sources, tmp_path)
    with pytest.raises(RuntimeError, match=r"(?s)value.cpp failed: .*no value here"):
        run([job], Progress())
    assert not job.is_current()


def test_progress_counts_on_stderr(sources, tmp_path, capfd):
    progress = Progress()
    progress.total = 1
    run([_job(sources, tmp_path)], progress)
    assert capfd.readouterr().err.startswith("dcnv2: [1/1] value.cpp, ")


@pytest.mark.parametrize("text", ["0", "-1", "many"])
def test_max_jobs_must_be_a_positive_number(monkeypatch, text):
    monkeypatch.setenv("MAX_JOBS", text)
    with pytest.raises(ValueError, match=f"MAX_JOBS must be a positive number, not '{text}'"):
        max_jobs()
    monkeypatch.setenv("MAX_JOBS", "3")
    assert max_jobs() == 3
