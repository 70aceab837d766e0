"""The verbs train, evaluate and calibrate, as typed."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from adafocus.cli.main import main
from adafocus.model.adafocus import AdaFocus
from adafocus.model.names import frame_names
from adafocus.training.data.clips import digest
from adafocus.training.data.manifests import list_clips
from adafocus.training.errors import TrainingError
from adafocus.training.evaluate.inference import load_trained
from adafocus.training.evaluate.operating_points import load_calibration
from adafocus.training.recipe import Recipe
from adafocus.training.recipe_files import load_recipe
from tests.training.conftest import write_clip

TOML = """
holdout = 0.5
threads = 1
[model]
steps = 2
frame_size = 32
patch_size = 32
policy_channels = 4
policy_hidden = 8
mlp_width = 16
glance = { name = "resnet18", width = 0.125, depth = [1, 1] }
focus = { name = "resnet18", width = 0.125, depth = [1, 1] }
[data]
resize = 32
[optimiser]
epochs = 1
batch_size = 4
"""


@pytest.fixture(scope="module")
def run_folder(clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    (folder / "tiny.toml").write_text(TOML)
    arguments = ["train", "--data", str(clip_folder), "--config", str(folder / "tiny.toml"), "--out"]
    for fold in ("0", "1"):
        assert main([*arguments, str(folder / fold), "--fold", fold, "--seed", "5"]) == 0
    return folder


def test_train_says_what_it_made(run_folder: Path, clip_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run_folder / "0"
    arguments = ["--data", str(clip_folder), "--config", str(run_folder / "tiny.toml"), "--out", str(out)]
    assert main(["train", *arguments, "--seed", "5"]) == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(out / "last.pt")
    assert "continuing after epoch 1 of 1" in said.err
    assert {path.name for path in out.iterdir()} == {"state.pt", "last.pt", "best.pt", "log.csv", "tensorboard"}


def test_calibrate_then_evaluate(run_folder: Path, clip_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    points = run_folder / "points.json"
    both = [option for fold in ("0", "1") for option in ("--checkpoint", str(run_folder / fold / "last.pt"))]
    assert main(["calibrate", *both, "--data", str(clip_folder), "--out", str(points)]) == 0
    assert "10 clips held out from training, cross-fit over 2 folds" in capsys.readouterr().out
    assert load_calibration(points).default in {"balanced", "accurate"}  # whichever rule the clips keep
    report = run_folder / "report.json"
    asked = ["--data", str(clip_folder), "--calibration", str(points), "--out", str(report)]
    asked += ["--plots", str(run_folder / "plots")]
    assert main(["evaluate", "--checkpoint", str(run_folder / "0" / "last.pt"), *asked]) == 0
    said = capsys.readouterr().out
    assert "10 clips: accuracy" in said
    assert "(authors)" in said
    assert {path.name for path in (run_folder / "plots").iterdir()} == {"curve.png", "steps.png", "confusion.png"}
    assert [point["name"] for point in json.loads(report.read_text())["points"]] == [
        "full",
        "accurate",
        "balanced",
        "fast",
    ]


def test_calibrate_on_a_split_refuses_what_was_learned(
    run_folder: Path, clip_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = str(run_folder / "0" / "last.pt")
    held = load_trained(Path(checkpoint)).held_aside
    clips = list_clips(clip_folder).clips
    rows = [(clip, "calibrate" if clip.identity in held else "train") for clip in clips]
    lines = [f"{clip.path},{clip.path.parent.name},{split}" for clip, split in rows]
    (tmp_path / "manifest.csv").write_text("\n".join(["file,label,split", *lines]), encoding="utf-8")
    asked = ["calibrate", "--checkpoint", checkpoint, "--data", str(tmp_path), "--out", str(tmp_path / "c.json")]
    assert main([*asked, "--split", "train"]) == 1
    assert "5 of 5 calibration clips are training clips" in capsys.readouterr().err
    curve = tmp_path / "curve.csv"
    assert main([*asked, "--split", "calibrate", "--budget", "0.5", "--curve", str(curve)]) == 0
    assert "at-50" in capsys.readouterr().out
    assert curve.read_text().startswith("ratio,gflops,flops_share,accuracy,answers_changed,threshold_1,threshold_2")


def test_calibrate_certifies_on_unlabelled_videos(
    run_folder: Path, clip_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = run_folder / "0" / "last.pt"
    for index in range(7):
        write_clip(tmp_path / "camera" / "deeper" / f"{index}.mp4", red=30 * index, seed=100 + index)
    asked = ["calibrate", "--checkpoint", str(checkpoint), "--data", str(clip_folder), "--guarantee", "0.4"]
    asked += ["--out", str(tmp_path / "c.json")]
    assert main([*asked, "--unlabelled", str(tmp_path / "camera")]) == 0
    said = capsys.readouterr()
    assert "certified-40 at most 40 % of videos change the answer, with 0.95 confidence (" in said.out
    assert "default certified-40" in said.out
    found = load_calibration(tmp_path / "c.json")
    guarantee = next(point.guarantee for point in found.points if point.name == found.default)
    assert guarantee is not None
    assert (guarantee.epsilon, guarantee.clips) == (0.4, 7)
    assert found.checkpoint == digest(checkpoint)
    assert main(asked) == 0
    said = capsys.readouterr()
    assert "nothing is promised at 0.4: it takes 6 independent clips to test on and there are" in said.err
    assert load_calibration(tmp_path / "c.json").default == "full"


def test_a_guarantee_belongs_to_one_model(
    run_folder: Path, clip_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = [option for fold in ("0", "1") for option in ("--checkpoint", str(run_folder / fold / "last.pt"))]
    assert main(["calibrate", *both, "--data", str(clip_folder), "--out", "x", "--guarantee", "0.1"]) == 2
    assert "need exactly one --checkpoint" in capsys.readouterr().err
    one = ["calibrate", *both[:2], "--data", str(clip_folder), "--out", "x", "--guarantee", "0.1", "--paper-protocol"]
    assert main(one) == 2
    assert "clips that it was not trained on" in capsys.readouterr().err
    asked = ["calibrate", *both[:2], "--data", str(clip_folder), "--out", "x", "--unlabelled", str(clip_folder)]
    assert main([*asked, "--risk", "right_answer_lost"]) == 2
    assert "cannot test the risk right_answer_lost, which needs labels" in capsys.readouterr().err


def test_the_curve_of_clips_with_several_labels_has_average_precision(
    clip_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{clip.path},moving;{clip.path.parent.name}" for clip in list_clips(clip_folder).clips]
    (tmp_path / "manifest.csv").write_text("\n".join(["file,labels", *rows]), encoding="utf-8")
    (tmp_path / "tiny.toml").write_text(TOML)
    data, run, curve = ["--data", str(tmp_path)], tmp_path / "run", tmp_path / "curve.csv"
    assert main(["train", *data, "--config", str(tmp_path / "tiny.toml"), "--out", str(run)]) == 0
    asked = ["--checkpoint", str(run / "last.pt"), *data]
    assert main(["calibrate", *asked, "--out", str(tmp_path / "points.json"), "--curve", str(curve)]) == 0
    assert "chosen by mean average precision" in capsys.readouterr().out
    head, *lines = csv.reader(curve.read_text().splitlines())
    assert head[:6] == ["ratio", "gflops", "flops_share", "accuracy", "map", "answers_changed"]
    assert all(0 < float(line[4]) <= 1 for line in lines)
    assert main(["evaluate", *asked, "--calibration", str(tmp_path / "points.json")]) == 0
    assert "mAP" in capsys.readouterr().out


def test_the_papers_protocol_solves_on_what_was_trained_on(
    run_folder: Path, clip_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = str(run_folder / "0" / "last.pt")
    points = tmp_path / "points.json"
    asked = ["calibrate", "--checkpoint", checkpoint, "--data", str(clip_folder), "--out", str(points)]
    assert main([*asked, "--paper-protocol"]) == 0
    found = load_calibration(points)
    assert (found.protocol, found.temperature, found.clips) == ("paper", 1.0, 5)
    assert found.notes.startswith("5 clips that the model was trained on, as published")
    assert json.loads(points.read_text())["protocol"] == "paper"
    assert main(asked) == 0
    assert load_calibration(points).protocol == "holdout"
    capsys.readouterr()
    assert main([*asked, "--checkpoint", checkpoint, "--paper-protocol"]) == 2
    assert "--paper-protocol needs exactly one --checkpoint" in capsys.readouterr().err
    held = load_trained(Path(checkpoint)).held_aside
    unseen = [clip for clip in list_clips(clip_folder).clips if clip.identity in held]
    lines = [f"{clip.path},{clip.path.parent.name}" for clip in unseen]
    (tmp_path / "manifest.csv").write_text("\n".join(["file,label", *lines]), encoding="utf-8")
    asked[4] = str(tmp_path)
    assert main([*asked, "--paper-protocol"]) == 1
    assert "the model was trained on none of these 5 clips" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--config", "nonsense", "--out", "x"], "there is no recipe 'nonsense'"),
        (["train", "--config", "tank_state", "--out", "x", "--split", "test"], "no such split"),
        (["evaluate", "--checkpoint", "absent.pt"], "cannot read absent.pt"),
        (["calibrate", "--checkpoint", "absent.pt", "--out", "x"], "cannot read absent.pt"),
    ],
)
def test_failures_are_one_line(
    arguments: list[str], message: str, clip_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--data", str(clip_folder)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("adafocus: ")
    assert message in said
    assert said.count("\n") == 1


def test_options_replace_the_recipes(tiny_recipe: Callable[..., Recipe]) -> None:
    assert tiny_recipe().with_options(holdout=0.0, seed=None).holdout == 0.0


def write_released(folder: Path, classes: int, lists: str = "") -> tuple[str, str]:
    """A small checkpoint as the authors would save it, and its recipe."""
    recipe, checkpoint = folder / "tiny.toml", folder / "ckpt.pth.tar"
    recipe.write_text(
        f"lists = '{lists}'" + TOML.replace('"resnet18", width = 0.125, depth = [1, 1]', '"resnet50", width = 0.125')
    )
    model = AdaFocus(load_recipe(str(recipe)).model_config(classes))
    state = {}
    for key, names in frame_names(model).items():
        value = model.state_dict()[key]
        for index, name in enumerate(names):
            state[f"module.{name}"] = value if len(names) == 1 else value[index]
    torch.save({"state_dict": state}, checkpoint)
    return str(checkpoint), str(recipe)


def test_a_released_checkpoint_is_judged_by_its_recipe(
    tmp_path: Path, clip_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, recipe = write_released(tmp_path, classes=2)
    asked = ["evaluate", "--checkpoint", checkpoint, "--data", str(clip_folder)]
    assert main([*asked, "--config", recipe, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["clips"] == 10
    assert main(asked) == 1
    assert "does not say what it is" in capsys.readouterr().err


def test_a_released_checkpoint_is_calibrated_and_its_training_list_refused(
    tmp_path: Path, clip_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, recipe = write_released(tmp_path, classes=27, lists="jester")
    lines = [f"{clip.path.with_suffix('')} 12 {clip.label}" for clip in list_clips(clip_folder).clips]
    (tmp_path / "train_videofolder.txt").write_text("\n".join(lines[::2]), encoding="utf-8")
    (tmp_path / "val_videofolder.txt").write_text("\n".join(lines[1::2]), encoding="utf-8")
    points = tmp_path / "points.json"
    asked = ["calibrate", "--checkpoint", checkpoint, "--config", recipe, "--out", str(points)]
    assert main([*asked, "--data", str(tmp_path), "--split", "val", "--criterion", "max_logit"]) == 0
    notes = load_calibration(points).notes
    assert notes.startswith("5 clips of split val, one model; assumed to be trained on the training list of jester")
    assert main([*asked, "--data", str(tmp_path), "--paper-protocol"]) == 0  # here they are what is wanted
    assert load_calibration(points).notes.startswith("5 clips that the model was trained on, as published")
    assert main([*asked, "--data", str(tmp_path), "--split", "train"]) == 1
    assert "5 of 5 calibration clips are training clips" in capsys.readouterr().err
    assert main([*asked, "--data", str(tmp_path)]) == 2
    assert "--config needs --split" in capsys.readouterr().err


def test_what_a_released_checkpoint_learned_from_may_not_be_known(
    tmp_path: Path, clip_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, recipe = write_released(tmp_path, classes=2)
    rows = [f"{clip.path},{clip.path.parent.name},mine" for clip in list_clips(clip_folder).clips]
    (tmp_path / "manifest.csv").write_text("\n".join(["file,label,split", *rows]), encoding="utf-8")
    asked = ["calibrate", "--checkpoint", checkpoint, "--config", recipe, "--data", str(tmp_path), "--split", "mine"]
    assert main([*asked, "--out", str(tmp_path / "points.json")]) == 0
    assert "its training clips are not known" in load_calibration(tmp_path / "points.json").notes
    points = ["--out", str(tmp_path / "points.json"), "--paper-protocol"]
    assert main([*asked, *points]) == 0
    assert load_calibration(tmp_path / "points.json").protocol == "paper"
    assert main([*asked[:-2], *points]) == 1
    assert "has no training list; --paper-protocol needs one, or --split" in capsys.readouterr().err


def test_what_is_left_out_of_the_folders_is_named_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("train/a/1.mp4", "train/b/2.mp4", "val/a/3.mp4", "val/b/4.mp4", "train/a/.old/1.mp4"):
        (tmp_path / "clips" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "clips" / name).write_text(name)
    for name in ("also", "train/a/up", "val/b/up"):
        (tmp_path / "clips" / name).symlink_to(tmp_path / "clips")

    def train(*_: object, **__: object) -> None:
        raise TrainingError("far enough")

    monkeypatch.setattr("adafocus.training.run.train.train", train)
    arguments = ["--data", str(tmp_path / "clips"), "--config", "small", "--out", str(tmp_path / "run")]
    assert main(["train", *arguments, "--validation-split", "val"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        *(
            f"left out: {tmp_path / 'clips' / name} is a link to a folder that contains it"
            for name in ("also", "train/a/up", "val/b/up")
        ),
        "adafocus: far enough",
    ]
