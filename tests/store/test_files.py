"""The file layer: the one place through which a store writes, and what it says when the disk refuses."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from camelid.errors import StoreError
from camelid.store.files import DISK

ROOM = Path(__file__).parents[2] / "src" / "camelid" / "store"
WRITING = {"write_bytes", "write_text", "touch", "mkdir", "rmdir", "symlink_to", "hardlink_to", "makedirs", "truncate"}
WRITING |= {"ftruncate", "pwrite", "copyfile", "copy2", "rmtree", "move", "replace_file", "remove"}
MAY_WRITE = {"files.py", "locks.py"}


@pytest.mark.parametrize("file", sorted(file.name for file in ROOM.rglob("*.py") if file.name not in MAY_WRITE))
def test_nothing_in_the_room_writes_but_through_the_layer(file: str) -> None:
    for node in ast.walk(ast.parse((ROOM / file).read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        called, owner = node.func.attr, ast.unparse(node.func.value)
        is_ours = owner.endswith(("disk", "manifests", "store"))
        assert is_ours or called not in WRITING | {"unlink", "rename"}, f"{file}:{node.lineno} calls {owner}.{called}"
        modes = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
        assert called != "open" or not any(set("wax+") & set(mode) for mode in modes if len(mode) < 4), f"{file} opens"


def test_what_the_system_refuses_is_an_error_of_the_house(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="Not a directory"):
        DISK.create(tmp_path / "file" / "below")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with pytest.raises(StoreError):
        DISK.create(tmp_path / "link")


def test_a_file_is_put_whole_with_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c"
    for content in (b"first", b"second, longer", b"3"):
        DISK.put(path, content)
        assert path.read_bytes() == content
    assert [child.name for child in path.parent.iterdir()] == ["c"]


def test_what_is_not_there_is_deleted_without_a_word(tmp_path: Path) -> None:
    DISK.unlink(tmp_path / "nothing")
    assert not DISK.remove_folder(tmp_path / "nothing")
