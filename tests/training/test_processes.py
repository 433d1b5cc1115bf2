"""Several processes of one run: on two nodes, and what a process says when another one is gone."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from tests.training.conftest import NET
from zeroseg.training.train import main

ROOT = Path(__file__).resolve().parents[2]
TINY = {
    "image_size": 32,
    "patch_size": 8,
    "width": 16,
    "depth": 1,
    "heads": 2,
    "head_width": 16,
    "head_heads": 2,
    "decoder_width": 16,
    "decoder_depth": 1,
    "decoder_heads": 2,
    "group_tokens": [6, 4],
    "output_groups": [6, 4],
    "projector_hidden": 24,
    "gumbel": "false",
}
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
    settings = {
        **{f"model.{name}": value for name, value in TINY.items()},
        "crops.sizes": [[32, 32]],
        "teacher.view_size": 32,
        "teacher.conse.worn_classes": [8, 9],
        "val_photos": 2,
        "warmup_epochs": 1,
        "adam_eps": 1e-3,
    }
    return list(
        map(
            str,
            [
                "--recipe",
                "paper",
                "--photos",
                photo_folder,
                "--labels",
                label_folder,
                "--label-space",
                "test/space",
                "--teacher",
                f"timm:{NET}",
                "--teacher-weights",
                teacher_folder,
                "--batch",
                6,
                "--micro-batch",
                3,
                "--epochs",
                40,
                "--precision",
                "fp32",
                "--device",
                "cpu",
                "--threads",
                1,
                "--cache",
                tmp_path / "cache",
                *(part for name, value in settings.items() for part in ("--set", f"{name}={value}")),
            ],
        )
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "silent"])
def test_a_lost_process_ends_the_others_in_one_line(arguments, tmp_path, sent):
    places = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    command = [sys.executable, "-c", CODE, *arguments, "--out", str(tmp_path / "run"), str(int(sent))]
    pair = [
        subprocess.Popen(command, env={**os.environ, **places, "RANK": rank}, stderr=subprocess.PIPE, text=True)
        for rank in "01"
    ]
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


@pytest.fixture
def nodes():
    """Two network namespaces joined by a cable, which are two machines to all that goes over a network:
    (name, network interface, address) of each.
    """
    if not shutil.which("ip") or os.geteuid() != 0:
        pytest.skip("two nodes are two network namespaces, which take root and iproute2")
    nodes = [(f"zeroseg-{os.getpid()}-{number}", f"zs{number}", f"10.77.0.{number}") for number in (1, 2)]
    names = [name for name, _, _ in nodes]
    lines = [
        *(f"netns add {name}" for name in names),
        f"link add zs1 netns {names[0]} type veth peer name zs2 netns {names[1]}",
    ]
    for name, interface, address in nodes:
        lines += [
            f"-n {name} addr add {address}/24 dev {interface}",
            f"-n {name} link set {interface} up",
            f"-n {name} link set lo up",
        ]
    try:
        for line in lines:
            done = subprocess.run(["ip", *line.split()], capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"no network namespaces here: ip {line}: {done.stderr.strip()}")
        yield nodes
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def test_two_nodes_equal_one_process(arguments, nodes, tmp_path):
    arguments = [*arguments, "--epochs", "1", "--out"]
    started = []
    for number, (name, interface, address) in enumerate(nodes):
        torchrun = [
            "--nnodes",
            "2",
            "--nproc-per-node",
            "1",
            "--rdzv-backend",
            "c10d",
            "--rdzv-endpoint",
            f"{nodes[0][2]}:29500",
            "--rdzv-conf",
            f"is_host={int(number == 0)}",
            "--local-addr",
            address,
        ]
        started.append(
            subprocess.Popen(
                [
                    "ip",
                    "netns",
                    "exec",
                    name,
                    sys.executable,
                    "-m",
                    "torch.distributed.run",
                    *torchrun,
                    ROOT / "training" / "train.py",
                    *arguments,
                    tmp_path / "nodes",
                ],
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "GLOO_SOCKET_IFNAME": interface, "OMP_NUM_THREADS": "1"},
            )
        )
    try:
        said = [process.communicate(timeout=600)[1] for process in started]
    finally:
        for process in started:
            process.kill()
            process.communicate()
    assert [process.returncode for process in started] == [0, 0], said
    assert "2 process(es) on cpu" in said[0]
    alone = CliRunner().invoke(main, [*arguments, str(tmp_path / "alone")])
    assert alone.exit_code == 0, alone.output
    got, wanted = (
        torch.load(tmp_path / name / "model.pt", weights_only=True)["state_dict"] for name in ("nodes", "alone")
    )
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(got[name], value, atol=1e-5, rtol=0, msg=lambda text, name=name: f"{name}: {text}")
