"""The store keeps options in config.json, tells who listens, and refuses what the flags forbid."""

from __future__ import annotations

import json
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest

from latentd.contributions import OptionSpec
from latentd.errors import InvalidRequest, NotConfigured, NotStored
from latentd.options import OptionStore, WritePolicy
from latentd.settings import parse_settings


def stored(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.json"


# --- the file --------------------------------------------------------------------------------------------------------


def test_a_change_is_written_with_four_spaces_and_unescaped_text(config: Path) -> None:
    OptionStore(config).update({"samples_filename_pattern": "夜-[seed]"})
    text = config.read_text(encoding="utf-8")
    assert '\n    "samples_filename_pattern": "夜-[seed]"' in text
    assert list(config.parent.iterdir()) == [config]


def test_an_unchanged_value_writes_nothing(config: Path) -> None:
    assert OptionStore(config).update({"jpeg_quality": 80.0}) == []
    assert not config.exists()


def test_unknown_keys_of_the_file_are_kept_and_not_returned(config: Path) -> None:
    config.write_text('{"my_extension": {"deep": [1]}, "jpeg_quality": 55}')
    store = OptionStore(config)
    assert "my_extension" not in store.body()
    store.update({"n_rows": 3})
    assert stored(config)["my_extension"] == {"deep": [1]}
    assert stored(config)["jpeg_quality"] == 55


def test_a_value_that_does_not_fit_its_option_gives_way_to_the_default(config: Path) -> None:
    config.write_text('{"jpeg_quality": "fine", "n_rows": 99}')
    store = OptionStore(config)
    assert (store["jpeg_quality"], store["n_rows"]) == (80, 16)


@pytest.mark.parametrize(
    "content",
    [
        b"{not json",
        b"[1, 2]",
        b"",
        '{"samples_filename_pattern": "Stra\xdfe"}'.encode("latin-1"),
        '{"n_rows": 3}'.encode("utf-16"),
        b'{"extension": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"extension": ' + b"[" * 500 + b"]" * 500 + b"}",
        b'{"extension": ' + b"9" * 5000 + b"}",
        b'{"extension": "\\ud800"}',
    ],
    ids=["no json", "no object", "empty", "latin-1", "utf-16", "nested", "nested less", "digits", "surrogate"],
)
def test_a_broken_file_is_put_aside(config: Path, content: bytes) -> None:
    config.write_bytes(content)
    store = OptionStore(config)
    store.update({"n_rows": 2})
    assert config.with_name("config.json.broken").read_bytes() == content
    assert stored(config)["n_rows"] == 2


def test_a_file_that_is_no_file_does_not_stop_the_server(config: Path) -> None:
    config.mkdir()
    assert OptionStore(config)["n_rows"] == -1


def test_a_folder_that_cannot_be_written_is_told_and_the_option_counts(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = OptionStore(tmp_path / "none" / "config.json")
    (tmp_path / "none").symlink_to(tmp_path / "file")
    with pytest.raises(NotStored, match=r"could not be written to config\.json"):
        store.update({"n_rows": 2})
    assert store["n_rows"] == 2
    assert store.update({"n_rows": 3}, from_api=False) == ["n_rows"]


def test_settings_of_early_2023_are_carried_over(config: Path) -> None:
    config.write_text(
        json.dumps({"sd_vae_as_default": True, "enable_emphasis": False, "quicksettings": "sd_vae, n_rows"})
    )
    store = OptionStore(config)
    assert store["sd_vae_overrides_per_model_preferences"] is False
    assert store["emphasis"] == "None"
    assert store["quicksettings_list"] == ["sd_vae", "n_rows"]


def test_what_a_file_already_says_in_new_words_is_not_migrated(config: Path) -> None:
    config.write_text(json.dumps({"sd_vae_as_default": True, "sd_vae_overrides_per_model_preferences": True}))
    assert OptionStore(config)["sd_vae_overrides_per_model_preferences"] is True


# --- writing ---------------------------------------------------------------------------------------------------------


def test_a_write_is_all_or_nothing() -> None:
    store = OptionStore()
    with pytest.raises(InvalidRequest):
        store.update({"n_rows": 4, "jpeg_quality": "good"})
    assert store["n_rows"] == -1


def test_unknown_keys_are_passed_over() -> None:
    assert OptionStore().update({"no_such_option": 1, "n_rows": 4}) == ["n_rows"]


@pytest.mark.parametrize(
    ("change", "other", "expected"),
    [
        ({"sd_vae_as_default": True}, "sd_vae_overrides_per_model_preferences", False),
        ({"sd_vae_overrides_per_model_preferences": False}, "sd_vae_as_default", True),
        ({"enable_emphasis": False}, "emphasis", "None"),
        ({"emphasis": "None"}, "enable_emphasis", False),
    ],
)
def test_old_and_new_names_move_together(change: dict[str, Any], other: str, expected: Any) -> None:
    store = OptionStore()
    store.update(change)
    assert store[other] == expected


def test_emphasis_comes_back_as_original() -> None:
    store = OptionStore()
    store.update({"enable_emphasis": False})
    store.update({"enable_emphasis": True})
    assert store["emphasis"] == "Original"


def test_a_client_may_post_back_everything_it_got() -> None:
    store = OptionStore()
    assert store.update(store.body()) == []


def test_posting_back_with_one_old_key_changed_acts() -> None:
    store = OptionStore()
    store.update({**store.body(), "enable_emphasis": False})
    assert store["emphasis"] == "None"


@pytest.mark.parametrize("key", ["api_enable_requests", "api_forbid_local_requests", "api_useragent"])
def test_guards_cannot_be_set_over_the_api_but_by_the_server(key: str) -> None:
    store = OptionStore()
    before = store[key]
    assert store.update({key: "0"}) == []
    assert store.snapshot({key: "0"})[key] == before
    assert store.update({key: "0"}, from_api=False) == [key]


@pytest.fixture
def guarded(tmp_path: Path) -> OptionStore:
    """A store in a data folder ``data``, with the flag ``--output-dir``; a folder beside it that a link leads to."""
    data = tmp_path / "data"
    for folder in ("outputs", "embeddings", "fonts"):
        (data / folder).mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (data / "outputs" / "link").symlink_to(tmp_path / "elsewhere")
    flags = ["--data-dir", str(data), "--output-dir", str(tmp_path / "allowed")]
    return OptionStore.from_settings(parse_settings(flags, environment={}))


@pytest.mark.parametrize(
    "folder",
    [
        "/etc",
        "../x",
        "outputs/../embeddings",
        "outputs/../../x",
        "embeddings",
        "models/Lora",
        "",
        ".",
        "~",
        "~/../x",
        "~root/x",
        "~nobody-of-this-name/x",
        "outputs/link",
        "outputs/link/deeper",
        "outputs\\..\\..\\x",
        "C:\\Windows",
        "\\\\server\\share",
        "outputs/\0",
        "outputs/" + "x" * 5000 + "/" + "y" * 5000,
    ],
)
@pytest.mark.parametrize("key", [key for key in OptionStore().body() if "dir_" in key and "outdir" in key])
def test_an_output_folder_set_over_the_api_stays_among_the_outputs(guarded: OptionStore, key: str, folder: str) -> None:
    before = guarded[key]
    kept = guarded.snapshot({key: folder})[key]
    if guarded.update({key: folder}):
        assert "output" in str(guarded.policy.paths.resolve(folder).resolve())  # type: ignore[union-attr]
        assert len(folder) > 4000  # inside, and too long: saving says so
        return
    assert guarded[key] == kept == before


def test_output_folders_that_the_operator_allows(guarded: OptionStore, tmp_path: Path) -> None:
    key = "outdir_txt2img_samples"
    for folder in ("outputs/mine", "output", "log/images", str(tmp_path / "allowed" / "x"), "output/txt2img-images"):
        assert guarded.update({key: folder}) == [key]
    assert guarded.update({key: "output/txt2img-images"}) == []


def test_folders_of_the_settings_file_are_the_operators(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    (tmp_path / "config.json").write_text(
        json.dumps({"outdir_txt2img_samples": str(pictures), "outdir_txt2img_grids": "."})
    )
    store = OptionStore.from_settings(parse_settings(["--data-dir", str(tmp_path)], environment={}))
    assert store["outdir_txt2img_samples"] == str(pictures)
    assert store.update({"outdir_img2img_samples": str(pictures / "img2img")}) == ["outdir_img2img_samples"]
    # the data folder itself is named, too, and does not open the models
    assert store.update({"outdir_img2img_samples": "embeddings"}) == []


@pytest.mark.parametrize("font", ["/etc/passwd", "config.json", "~/font.ttf", "fonts/../config.json"])
def test_a_font_named_over_the_api_lies_among_the_fonts(guarded: OptionStore, font: str) -> None:
    assert guarded.update({"font": font}) == []
    assert guarded.update({"font": "fonts/mine.ttf"}) == ["font"]
    assert guarded.update({"font": ""}) == ["font"]


# --- values that no file can hold -------------------------------------------------------------------------------------


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("samples_filename_pattern", "\ud800"),
        ("samples_filename_pattern", "x" * 10**6),
        ("quicksettings_list", ["\udfff"]),
        ("quicksettings_list", nested(950)),
        ("quicksettings_list", nested(100_000)),
        ("quicksettings_list", ["x"] * 10**6),
    ],
    ids=["surrogate", "long", "surrogate in a list", "nested", "nested deeply", "many"],
)
def test_what_cannot_be_stored_is_refused_at_once(config: Path, key: str, value: Any) -> None:
    store = OptionStore(config)
    with pytest.raises(InvalidRequest, match="cannot be stored"):
        store.update({key: value})
    with pytest.raises(InvalidRequest, match="cannot be stored"):
        store.snapshot({key: value})
    assert store.update({"n_rows": 2}) == ["n_rows"]
    assert json.dumps(store.body())
    assert OptionStore(config)["n_rows"] == 2


def test_hidden_folder_settings_are_passed_over() -> None:
    store = OptionStore(policy=WritePolicy(hide_folders=True))
    assert store.update({"outdir_grids": "x", "samples_filename_pattern": "y", "n_rows": 2}) == ["n_rows"]


@pytest.mark.parametrize(
    "flags",
    [
        ["--freeze-settings"],
        ["--freeze-settings-in-sections", "upscaling,saving-images"],
        ["--freeze-specific-settings", "samples_save,n_rows"],
    ],
)
def test_frozen_options_are_refused_in_writes_and_overrides(flags: list[str], tmp_path: Path) -> None:
    store = OptionStore.from_settings(parse_settings(["--data-dir", str(tmp_path), *flags], {}))
    with pytest.raises(NotConfigured):
        store.update({"n_rows": 2})
    with pytest.raises(NotConfigured):
        store.snapshot({"n_rows": 2})
    assert store.update({"n_rows": -1}) == []


def test_callbacks_hear_of_changes_only() -> None:
    store, heard = OptionStore(), []
    store.on_change("n_rows", heard.append)
    store.update({"n_rows": 2})
    store.update({"n_rows": 2})
    assert heard == [2]


def test_a_failing_callback_takes_its_key_back_and_no_other(config: Path) -> None:
    def refuse(value: Any) -> None:
        raise ValueError("no")

    store = OptionStore(config)
    store.on_change("sd_vae", refuse)
    with pytest.raises(ValueError, match="no"):
        store.update({"sd_vae": "x", "n_rows": 2})
    assert (store["sd_vae"], store["n_rows"]) == ("Automatic", 2)
    assert stored(config)["sd_vae"] == "Automatic"


def test_writers_on_many_threads_lose_nothing(config: Path) -> None:
    store = OptionStore(config)
    keys = [spec.key for spec in store.specs() if spec.default is False and spec.affects == "ui"][:12]
    threads = [threading.Thread(target=store.update, args=({key: True},)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 12
    assert all(stored(config)[key] for key in keys)


# --- snapshots -------------------------------------------------------------------------------------------------------


def test_a_snapshot_stays_as_it_was() -> None:
    store = OptionStore()
    before = store.snapshot({"CLIP_stop_at_last_layers": "2", "unknown": 1})
    store.update({"jpeg_quality": 10})
    assert (before["jpeg_quality"], before["CLIP_stop_at_last_layers"]) == (80, 2)
    assert before.overrides == {"CLIP_stop_at_last_layers": 2}
    assert store["CLIP_stop_at_last_layers"] == 1


def test_a_snapshot_can_be_pickled_and_not_be_written() -> None:
    snapshot = OptionStore().snapshot({"n_rows": 3})
    assert dict(pickle.loads(pickle.dumps(snapshot))) == dict(snapshot)
    with pytest.raises(TypeError):
        snapshot["n_rows"] = 4  # type: ignore[index]


def test_a_bad_override_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match="CLIP_stop_at_last_layers"):
        OptionStore().snapshot({"CLIP_stop_at_last_layers": "two"})


# --- plugins' options ------------------------------------------------------------------------------------------------


def test_an_option_of_a_plugin_takes_its_value_from_the_file_and_leaves_it_there(config: Path) -> None:
    config.write_text('{"control_net_unit_count": 5}')
    store = OptionStore(config)
    store.register("controlnet", [OptionSpec(key="control_net_unit_count", default=3, help="units")])
    assert store.body()["control_net_unit_count"] == 5.0
    store.withdraw("controlnet")
    assert "control_net_unit_count" not in store
    store.update({"n_rows": 2})
    assert stored(config)["control_net_unit_count"] == 5


def test_a_key_belongs_to_one_owner() -> None:
    store = OptionStore()
    with pytest.raises(ValueError, match="'n_rows' belongs to latentd"):
        store.register(
            "mine",
            [OptionSpec(key="new_key", default=1, help="x"), OptionSpec(key="n_rows", default=1, help="x")],
        )
    assert "new_key" not in store
