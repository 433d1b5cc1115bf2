"""The inference server as a child process that is restarted when it ends."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from zeroseg.errors import ZerosegError
from zeroseg.serving.client import Client
from zeroseg.serving.server_files import find_server

START_S = 90.0
WATCH_S = 0.2
PAUSE_S, PAUSE_MAX_S = 0.5, 15.0  # before a restart; doubled each time the server ends soon
# the child asks the kernel to end it when this process ends, for whatever reason
_WITH_PARENT = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); os.execv(sys.argv[1], sys.argv[1:])"


class InferenceServer:
    """Serves a model repository over HTTP and gRPC until stop().

    Ports: 0 takes a free one; http_port and grpc_port are the actual ones. restarts: number of restarts.
    """

    def __init__(
        self,
        repository: Path,
        host: str = "127.0.0.1",
        http_port: int = 0,
        grpc_port: int = 0,
        say: Callable[[str], None] = lambda line: None,
    ):
        self._folder = Path(tempfile.mkdtemp(prefix="zeroseg-triton-"))
        try:
            self._files = find_server(self._folder / "backends")
            self.http_port, self.grpc_port = _listening(host, http_port), _listening(host, grpc_port)
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        self.host, self.restarts, self._say = host, 0, say
        self.client = Client("127.0.0.1" if host in ("0.0.0.0", "::") else host, self.grpc_port)
        self._repository, self._log = repository, self._folder / "log.txt"
        self._process: subprocess.Popen | None = None
        self._ending = threading.Event()
        self._failed = threading.Event()
        self._memory = f"zeroseg_{secrets.token_hex(6)}_"
        # the thread that starts the child must live as long as the child
        self._thread = threading.Thread(target=self._keep, daemon=True, name="zeroseg-inference-server")

    @property
    def pid(self) -> int | None:
        """Process id of the running server."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> "InferenceServer":
        """Return when all models are ready. Raises ZerosegError with the server's message if they cannot start."""
        self._thread.start()
        end_s = time.monotonic() + START_S
        while not self.ready():
            if self._failed.is_set() or time.monotonic() > end_s:
                self.stop()
                raise ZerosegError(f"the inference server did not start: {self._last_words}")
            time.sleep(0.05)
        return self

    def ready(self) -> bool:
        """Whether every model answers."""
        return self.client.ready()

    def stop(self) -> None:
        """End the server and its processes."""
        self._ending.set()
        process = self._process
        if process is not None:
            process.terminate()
        if self._thread.is_alive():
            self._thread.join(30)
        self._last_words = _last_words(self._log)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _keep(self) -> None:
        pause_s = PAUSE_S
        while not self._ending.is_set():
            started_s = time.monotonic()
            with open(self._log, "wb") as log:
                self._process = process = subprocess.Popen(
                    self._command(),
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                    env={**os.environ, **self._files.environment},
                )
            lost = 0  # times in a row that a process of the server was found dead; the server does not restart it
            while process.poll() is None:
                lost = lost + 1 if _has_dead_child(process.pid) else 0
                if lost > 2 and self.ready():
                    process.kill()
                if self._ending.wait(WATCH_S):
                    process.terminate()
                    try:
                        process.wait(20)
                    except subprocess.TimeoutExpired:
                        process.kill()
                        process.wait()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # the processes of a killed server would wait for it for ever
            self._forget_memory()
            if self._ending.is_set():
                return
            if self.restarts == 0 and process.returncode > 0 and time.monotonic() - started_s < START_S:
                self._failed.set()  # it could not load a model, and a restart would not help
                return
            self.restarts += 1
            pause_s = PAUSE_S if time.monotonic() - started_s > 60 else pause_s
            self._say(f"the inference server ended ({_how(process.returncode)}); restarting in {pause_s:g} s")
            self._ending.wait(pause_s)
            pause_s = min(2 * pause_s, PAUSE_MAX_S)

    def _command(self) -> list[str]:
        options = {
            "model-repository": self._repository,
            "backend-directory": self._files.backends,
            "http-address": self.host,
            "http-port": self.http_port,
            "grpc-address": self.host,
            "grpc-port": self.grpc_port,
            "allow-metrics": "false",
            "log-info": "false",
            "exit-timeout-secs": 5,
            "pinned-memory-pool-byte-size": 0,
            "backend-config": f"python,shm-region-prefix-name={self._memory}",
        }
        locked = f"shared-memory,model-repository,trace,logging:key={secrets.token_hex(16)}"  # nobody knows the key
        return [
            sys.executable,
            "-c",
            _WITH_PARENT,
            str(self._files.program),
            "--disable-auto-complete-config",
            f"--http-restricted-api={locked}",
            f"--grpc-restricted-protocol={locked}",
            *(f"--{name}={value}" for name, value in options.items()),
        ]

    def _forget_memory(self) -> None:
        """Delete the shared memory that a killed server left behind."""
        for path in Path("/dev/shm").glob(f"{self._memory}*"):
            path.unlink(missing_ok=True)


def _listening(host: str, port: int) -> int:
    """The port, or a free one for 0. Raises ZerosegError if it is taken."""
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
            return listener.getsockname()[1]
    except (OSError, OverflowError) as error:
        raise ZerosegError(
            f"the inference server cannot listen on {host}:{port} "
            f"({getattr(error, 'strerror', None) or error}); choose another port"
        ) from error


def _has_dead_child(pid: int) -> bool:
    """Whether a child of pid has ended and pid has not noticed (a zombie)."""
    try:
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in children.read_text().split():
                if Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                    return True
    except OSError:
        pass  # gone while we looked
    return False


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _last_words(log: Path) -> str:
    """The line of the log with the error."""
    try:
        lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return "it wrote nothing"
    wrong = [line for line in lines if "failed to load" in line or line.startswith("error")]
    return (wrong or [line for line in lines if line] or ["it wrote nothing"])[0][:500]
