import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import yaml
from av.video.frame import PictureType
from scipy.stats import ks_2samp

import mmfuse
from mmfuse.data.catalogue.cards import load_card
from mmfuse.data.catalogue.load import load_catalogue
from mmfuse.data.tiny import dataset, make_clips
from mmfuse.data.tiny.dataset import ACTIONS, Action, choreograph, generate, listing, render
from mmfuse.data.tiny.rendering import Pictures, random_pictures
from mmfuse.errors import MmfuseError
from mmfuse.utils.resources import cards_folder

PAIRS = [(ACTIONS[i], ACTIONS[i + 1]) for i in range(0, len(ACTIONS), 2)]


@pytest.fixture(scope="module")
def root() -> Path:
    return generate()


def test_counts_labels_and_groups() -> None:
    table = listing()
    assert len(table) == table["clip"].nunique() == table["path"].nunique() == 12 * 52
    assert table.groupby(["class", "part"]).size().unstack().to_dict("list") == {"train": [32] * 12, "test": [20] * 12}
    assert table.drop_duplicates("label")["class"].tolist() == [action.name for action in ACTIONS]
    groups = table.groupby("part")["group"].unique()
    assert not set(groups["train"]) & set(groups["test"])
    assert table.groupby("group")["class"].nunique().max() == 1
    assert table.groupby("class")["group"].nunique().unique().tolist() == [13]


def test_the_card_says_what_is_generated() -> None:
    card = yaml.safe_load((cards_folder() / "tiny.yaml").read_text())
    table = listing()
    assert [entry["name"] for entry in card["classes"]] == [action.name for action in ACTIONS]
    assert card["splits"] == {1: table["part"].value_counts().to_dict()}
    assert card["size"] == dataset.SIZE
    assert card["max_shots"] == (table["part"] == "train").sum() / len(ACTIONS)


def test_every_clip_is_h264_with_the_frames_that_were_drawn(root: Path) -> None:
    kinds = set()
    for row in listing().iloc[::25].to_dict("records"):
        drawn, rate = render(clip=row["clip"], group=row["group"], action=ACTIONS[row["label"]])
        with av.open(str(root / row["path"])) as container:
            stream = container.streams.video[0]
            assert stream.codec_context.name == "h264"
            assert stream.average_rate == rate
            decoded = list(container.decode(stream))
        kinds |= {PictureType(frame.pict_type).name for frame in decoded}
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in decoded])
        assert frames.shape == drawn.shape == (len(drawn), 64, 64, 3)
        error = np.abs(frames.astype(float) - drawn)
        assert error.mean() < 12, row["clip"]
        # In order: each decoded frame is nearest to its own drawing's luminance, noise and all.
        grey, drawn_grey = frames.mean(-1).reshape(len(frames), -1), drawn.mean(-1).reshape(len(frames), -1)
        apart = ((grey[:, None] - drawn_grey[None]) ** 2).mean(-1)
        assert np.mean(apart.argmin(axis=1) == np.arange(len(frames))) > 0.6, row["clip"]  # little moves in a pause
    assert {"I", "P", "B"} <= kinds  # ordinary streams, whose frames are not stored in the order they are shown


def test_clips_of_a_group_share_a_style_and_still_differ() -> None:
    first, _ = render(clip="a", group="g", action=ACTIONS[0])
    second, _ = render(clip="b", group="g", action=ACTIONS[0])
    assert first.shape != second.shape or (first != second).any()
    same = dataset._scene("g", np.random.default_rng(0)), dataset._scene("g", np.random.default_rng(1))
    for field in ("shape", "colour", "paint", "ground", "ground_paint"):
        assert (getattr(same[0], field) == getattr(same[1], field)).all()
    assert (same[0].clutter != same[1].clutter).any()


def test_a_broken_off_generation_is_finished_with_the_same_bytes(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "tiny"
    shutil.copytree(root, copy)
    gone = listing()["path"].iloc[[0, 100, 300, 623]].tolist()
    for path in gone:
        (copy / path).unlink()
    with ThreadPoolExecutor(2) as pool:  # two at once
        assert list(pool.map(generate, [copy, copy])) == [copy, copy]
    for path in gone:
        assert (copy / path).read_bytes() == (root / path).read_bytes(), path
    assert not list(copy.rglob("*.tmp"))


def test_a_complete_folder_is_left_alone(root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert generate() == root
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_a_failed_encoding_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        dataset._encode(tmp_path / "clip.mp4", np.zeros((3, 64, 64, 3), np.float32), rate=12)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.mp4").write_bytes(b"")
    with pytest.raises(MmfuseError, match="holds other files"):
        generate(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["holiday.mp4"]


def test_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tiny.version").write_text("0\n")
    with pytest.raises(MmfuseError, match="version 0"):
        generate(tmp_path)


def test_a_place_that_cannot_be_written_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MMFUSE_CACHE", str(tmp_path / "file"))
    with pytest.raises(MmfuseError, match="MMFUSE_CACHE"):
        generate()


def _clips(action: Action, count: int, rng: np.random.Generator) -> list[Pictures]:
    return [choreograph(random_pictures(1, rng=rng), action, rng=rng) for _ in range(count)]


def _state(frames: Pictures) -> np.ndarray:
    """(T, 6) all that the drawing knows of the moving shape: stronger than anything that can be seen."""
    turn = np.cos(frames.angle), np.sin(frames.angle)
    return np.stack([frames.x, frames.y, np.log(frames.radius), *turn, frames.opacity], axis=-1)


def _lowest_p(first: list[np.ndarray], second: list[np.ndarray]) -> float:
    """The least likely agreement of two samples of states in any of their quantities (Kolmogorov and Smirnov)."""
    left, right = np.stack(first), np.stack(second)
    return min(float(ks_2samp(left[:, i], right[:, i]).pvalue) for i in range(left.shape[1]))


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[0].name)
def test_no_still_frame_tells_the_opposites_apart_but_their_order_does(pair: tuple[Action, Action]) -> None:
    rng = np.random.default_rng(PAIRS.index(pair))
    clips = [[_state(frames) for frames in _clips(action, 600, rng)] for action in pair]
    at_random = [[clip[rng.integers(len(clip))] for clip in half] for half in clips]
    half_way = [[clip[len(clip) // 2] for clip in half] for half in clips]
    assert _lowest_p(*at_random) > 1e-4
    assert _lowest_p(*half_way) > 1e-4
    ordered = [[clip[-4] - clip[3] for clip in half] for half in clips]
    assert _lowest_p(*ordered) < 1e-6


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[0].name)
def test_the_opposites_are_each_other_played_backwards(pair: tuple[Action, Action]) -> None:
    rng = np.random.default_rng(0)
    scene = random_pictures(1, rng=rng)
    forwards = _state(choreograph(scene, pair[0], rng=np.random.default_rng(7)))
    backwards = _state(choreograph(scene, pair[1], rng=np.random.default_rng(7)))
    assert (forwards[::-1] == backwards).all()
    assert (forwards != backwards).any()


@pytest.mark.parametrize(
    ("name", "quantity", "sign"),
    [
        ("MoveRight", lambda s: s[:, 0], 1),
        ("MoveLeft", lambda s: s[:, 0], -1),
        ("MoveUp", lambda s: s[:, 1], -1),
        ("MoveDown", lambda s: s[:, 1], 1),
        ("TurnClockwise", lambda s: np.unwrap(np.arctan2(s[:, 4], s[:, 3])), 1),
        ("TurnCounterclockwise", lambda s: np.unwrap(np.arctan2(s[:, 4], s[:, 3])), -1),
        ("Grow", lambda s: s[:, 2], 1),
        ("Shrink", lambda s: s[:, 2], -1),
        ("CircleClockwise", lambda s: s[:, 0], 1),  # over the top, so mostly from left to right
        ("Appear", lambda s: s[:, 5], 1),
        ("FadeAway", lambda s: s[:, 5], -1),
    ],
)
def test_each_class_does_what_its_name_says(name: str, quantity, sign: int) -> None:
    action = next(action for action in ACTIONS if action.name == name)
    clips = [quantity(_state(frames)) for frames in _clips(action, 100, np.random.default_rng(0))]
    right = np.mean([np.sign(clip[-1] - clip[0]) == sign for clip in clips])
    assert right > (0.8 if name.startswith("Circle") else 0.99)


def test_the_card_changes_with_the_pixels() -> None:
    # Records hold a digest of the card: a number of an earlier version of the clips then shows as stale.
    [source] = load_card("tiny").sources
    assert f"version {dataset.VERSION}," in str(source)


def test_no_other_module_knows_the_data_set_by_name() -> None:
    """What is special about it is said by its card, and done in its own folder."""
    package = Path(mmfuse.__file__).parent
    asking = re.compile(r"""[=!]= *["']tiny["']|tiny\.dataset import""")
    # The report has records alone, which give the name.
    places = [package / name for name in ("data", "bench", "cli", "inference", "model", "records")]
    others = [path for place in places for path in place.rglob("*.py") if path.parent.name != "tiny"]
    assert [path for path in others if asking.search(path.read_text(encoding="utf-8"))] == []


def test_clips_are_made_where_the_catalogue_says_and_of_no_other_data_set(tmp_path: Path) -> None:
    catalogue = load_catalogue("tiny", root=tmp_path / "here")
    assert not (tmp_path / "here").exists(), "reading the lists makes nothing"
    made: list[Path | None] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmfuse.data.tiny.dataset.generate", lambda root, report=None: made.append(root))
        make_clips(catalogue)
        assert made == [tmp_path / "here"]
        make_clips(replace(catalogue, card=replace(catalogue.card, generated=False)))
    assert made == [tmp_path / "here"]
    assert all(Path(path).is_relative_to(tmp_path / "here") for path in catalogue.table["path"])
