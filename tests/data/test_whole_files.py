# SPDX-License-Identifier: BSD-3-Clause
"""Tables and folders that commands write: compressed by their names, refused where in the way."""

import pandas as pd
import pytest

from dcnv2 import cli
from dcnv2.data.shapes import write_shapes
from dcnv2.data.whole_files import ARCHIVES, make_folder, replacing, write_table

TABLE = pd.DataFrame({"kind": ["no box", "no image"], "count": [1, 2]})


@pytest.mark.parametrize("ending", ["", ".txt", ".gz", ".GZ", ".bz2", ".xz"])
def test_a_table_is_compressed_as_its_name_says(tmp_path, ending):
    path = tmp_path / f"table.csv{ending}"
    write_table(path, TABLE)
    method = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz"}.get(ending.lower())
    assert pd.read_csv(path, compression=method).equals(TABLE)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", sorted(ARCHIVES))
def test_no_table_is_written_to_an_archive(tmp_path, ending):
    with pytest.raises(ValueError, match=rf"{ending}: .* archive: choose .csv, .csv.gz"):
        write_table(tmp_path / f"table{ending}", TABLE)
    assert not list(tmp_path.iterdir())


def test_the_check_of_data_compresses_its_table_and_refuses_first(tmp_path, capsys):
    root = write_shapes(tmp_path / "shapes", 1, 1, 64)
    (root / "images" / "val" / "000001.png").unlink()
    assert cli.main(["data", "check", str(root), f"--csv={tmp_path / 'found.csv.gz'}"]) == 1
    assert pd.read_csv(tmp_path / "found.csv.gz")["split"].tolist() == ["val", "val"]
    capsys.readouterr()
    wrong = {
        "found.zip": "no table is written to an archive",
        ".": "is a folder: wanted the name of a file",
        "nowhere/found.csv": "nowhere is not a folder: create it, or choose another",
    }
    for name, message in wrong.items():
        assert cli.main(["data", "check", str(root), f"--csv={tmp_path / name}"]) == 1
        output = capsys.readouterr()
        assert message in output.err
        assert output.err.count("\n") == 1
        assert output.out == ""


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path, capsys):
    blocker = tmp_path / "file"
    blocker.touch()
    for folder in (blocker, blocker / "inside" / "further"):
        with pytest.raises(NotADirectoryError, match="file is a file, not a folder: choose"):
            make_folder(folder)
    assert cli.main(["data", "shapes", str(blocker), "--train=1", "--val=1"]) == 1
    error = f"{blocker} is a file, not a folder: choose another folder"
    assert capsys.readouterr().err == f"dcnv2: {error}\n"


def test_a_writer_sees_the_ending_of_the_name(tmp_path):
    with replacing(tmp_path / "plot.svg") as aside:
        assert aside.suffix == ".svg"
        aside.touch()
    assert [file.name for file in tmp_path.iterdir()] == ["plot.svg"]
