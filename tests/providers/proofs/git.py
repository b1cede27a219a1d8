"""Git over HTTPS, as GitHub wants it: a token for the password of `x-access-token`, and first a question without."""

import base64
import os
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from . import SERVERS, get, proof, resolve

GIT = SERVERS["git"]
INFO = f"{GIT['url']}/info/refs?service=git-receive-pack"


def basic(user: str = GIT["user"], token: str = GIT["token"]) -> dict:
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{token}'.encode()).decode()}"}


def git(directory: str, *arguments: str, header: dict | None = None) -> subprocess.CompletedProcess:
    # Of git's own settings none maps a name to another port; the certificate is for `localhost` as well.
    port = resolve[urlsplit(GIT["url"]).hostname].rpartition(":")[2]
    settings = {f"url.https://localhost:{port}/.insteadOf": "https://git.test/", "http.sslCAInfo": SERVERS["ca"],
                "user.name": "Smoke", "user.email": "smoke@git.test", "http.postBuffer": "65536"}  # fmt: skip
    settings |= {"http.extraHeader": f"Authorization: {header['Authorization']}"} if header else {}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    environment = {"PATH": os.environ["PATH"], "HOME": directory}
    environment |= {"GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.run(
        ["git", *options, *arguments], cwd=directory, env=environment, capture_output=True, text=True, timeout=60
    )


@proof
def only_one_user_with_one_token_comes_in():
    first = get(INFO)
    assert (first.status_code, first.headers["WWW-Authenticate"].split()[0]) == (401, "Basic"), first.headers
    assert get(INFO, headers=basic()).status_code == 200
    for wrong in (basic(token="wrong"), basic(user="git"), {"Authorization": f"Bearer {GIT['token']}"}):
        assert get(INFO, headers=wrong).status_code == 401


@proof
def git_clones_and_pushes_in_chunks():
    with tempfile.TemporaryDirectory() as directory:
        assert git(directory, "clone", "--quiet", GIT["url"], "none").returncode != 0
        cloned = git(directory, "clone", "--quiet", GIT["url"], "herd", header=basic())
        assert cloned.returncode == 0, cloned.stderr
        herd = Path(directory) / "herd"
        assert (herd / "README").read_text().startswith("a herd of egrets")
        (herd / "eggs").write_bytes(os.urandom(3_000_000))
        for arguments in (["add", "."], ["commit", "--quiet", "-m", "Lay"]):
            assert git(str(herd), *arguments).returncode == 0
        assert git(str(herd), "push", "--quiet", "origin", "HEAD:smoke").returncode != 0
        pushed = git(str(herd), "push", "--quiet", "origin", "HEAD:smoke", header=basic())
        assert pushed.returncode == 0, pushed.stderr
        assert "refs/heads/smoke" in git(directory, "ls-remote", GIT["url"], header=basic()).stdout


@proof
def another_token_can_be_put_in_its_place():
    users = Path(GIT["users_file"])
    before = users.read_text()
    users.write_text(f"{GIT['user']}:another\n")
    assert get(INFO, headers=basic()).status_code == 401
    assert get(INFO, headers=basic(token="another")).status_code == 200
    users.write_text(before)
