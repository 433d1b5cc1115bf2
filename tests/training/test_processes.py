"""Several processes of one run: what a process says when another one is gone."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TINY = {"image_size": 32, "patch_size": 8, "width": 16, "depth": 1, "heads": 2, "head_width": 16, "head_heads": 2,
        "decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2, "group_tokens": [6, 4], "output_groups": [6, 4],
        "projector_hidden": 24, "gumbel": "false"}
# the command, with a patience of seconds, in which process 1 gets a signal at its third step
CODE = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from datetime import timedelta
from zeroseg.training import loop, processes
from zeroseg.training.train import main
processes.STEPS = timedelta(seconds=5)
step = loop.Trainer._step
def dying(trainer, *rest):
    if trainer.processes.rank == 1 and trainer.step == 2:
        os.kill(os.getpid(), int(sys.argv.pop()))
    return step(trainer, *rest)
loop.Trainer._step = dying
main(sys.argv[1:-1])
"""


@pytest.fixture
def arguments(photo_folder, label_folder, teacher_folder, tmp_path):
    """The paper's recipe for a tiny student, in one thread, some hundred steps."""
    from tests.training.conftest import NET

    settings = {**{f"model.{name}": value for name, value in TINY.items()}, "crops.sizes": [[32, 32]],
                "teacher.view_size": 32, "teacher.conse.worn_classes": [8, 9], "val_photos": 2, "warmup_epochs": 1}
    return ["--recipe", "paper", "--photos", photo_folder, "--labels", label_folder, "--label-space", "test/space",
            "--teacher", f"timm:{NET}", "--teacher-weights", teacher_folder, "--batch", 6, "--micro-batch", 3,
            "--epochs", 40, "--precision", "fp32", "--device", "cpu", "--threads", 1, "--cache", tmp_path / "cache",
            *(part for name, value in settings.items() for part in ("--set", f"{name}={value}"))]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "silent"])
def test_a_lost_process_ends_the_others_in_one_line(arguments, tmp_path, sent):
    places = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    command = [sys.executable, "-c", CODE, *map(str, arguments), "--out", str(tmp_path / "run"), str(int(sent))]
    pair = [subprocess.Popen(command, env={**os.environ, **places, "RANK": rank}, stderr=subprocess.PIPE, text=True)
            for rank in "01"]
    try:
        said = pair[0].communicate(timeout=300)[1]
    finally:
        for process in pair:
            process.kill()
            process.communicate()
    last = said.strip().splitlines()[-1]
    assert pair[0].returncode == 1 and "Traceback" not in said
    assert last.startswith("Error: another process of this run ended or cannot be reached;") and "--resume" in last
    assert not (tmp_path / "run" / "model.pt").exists()
