"""The README's interface table against the code."""

import re

from places import REPOSITORY


def private_names_in_code() -> set[str]:
    """Every private topic, service and action name that the node makes."""
    text = "\n".join(path.read_text() for path in (REPOSITORY / "vidllm_ros" / "node").rglob("*.py"))
    return set(re.findall(r"[\"'](~/[a-z_/]+)[\"']", text))


def private_names_in_readme() -> set[str]:
    rows = [line for line in (REPOSITORY / "README.md").read_text().splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`(~/[a-z_/]+)`", row)}


def test_the_table_lists_exactly_the_names_of_the_code():
    assert private_names_in_readme() == private_names_in_code()


def test_every_own_interface_in_the_table_exists():
    named = set(re.findall(r"vidllm_ros/((?:srv|action)/\w+|\w+Info)`", (REPOSITORY / "README.md").read_text()))
    assert named == {"WindowInfo", "srv/Query", "srv/SaveMap", "action/Query"}
    for name in named:
        folder, _, kind = name.rpartition("/")
        folder = folder or "msg"
        assert (REPOSITORY / folder / f"{kind}.{folder}").is_file()


def test_files_the_readme_points_to_exist():
    for link in re.findall(r"\]\(([^)#]+)\)", (REPOSITORY / "README.md").read_text()):
        if not link.startswith("http"):
            assert (REPOSITORY / link).exists(), link
