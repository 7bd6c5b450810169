from pathlib import Path

import pytest

from saarthi_lib.layout import RunLayout, is_run, read_record
from saarthi_lib.storage import write_json

OLD_RUN = Path(__file__).parents[1] / "old_run"


def test_paths_of_a_run_follow_its_folder_names() -> None:
    layout = RunLayout(Path("run"), teacher_name="big", student_name="tiny")
    assert layout.teacher == Path("run/big")
    assert layout.stage() == Path("run/tiny/stage_5")
    assert layout.exported == Path("run/work/exported")
    assert layout.quantized_bundle("int8") == Path("run/bundle-int8")


def test_layout_of_an_earlier_run_has_its_folder_names(tmp_path: Path) -> None:
    names = {"teacher_output_folder": "big", "student_output_folder": "tiny"}
    write_json(tmp_path / "run.json", {"config": names, "made": []})
    layout = RunLayout.of(tmp_path)
    assert (layout.teacher_name, layout.student_name) == ("big", "tiny")


@pytest.mark.parametrize("made", [True, False])
def test_data_are_elsewhere_if_the_user_has_a_folder_data(tmp_path: Path, made: bool) -> None:
    (tmp_path / "data").mkdir()
    if made:
        write_json(tmp_path / "prepared-data" / "step.json", {})
    expected = "prepared-data" if made else "data"
    assert RunLayout.of(tmp_path).data == tmp_path / expected


def test_folders_of_earlier_versions_count_as_steps() -> None:
    assert Path("run/work/quantised") in RunLayout(Path("run")).steps()


def test_old_run_is_recognized_as_a_run() -> None:
    assert is_run(OLD_RUN)
    assert RunLayout.of(OLD_RUN).delivered_bundle() == OLD_RUN / "bundle-int8"
    assert not is_run(OLD_RUN.parent)


def test_damaged_record_is_empty(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("[", encoding="utf-8")
    assert read_record(tmp_path) == {}
