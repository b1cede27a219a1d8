"""requests, with nothing set but the environment: METHOD URL, or STREAM URL."""

import os
import pathlib
import sys

import requests

CANARY = os.environ["CANARY"]
HEADERS = {"Authorization": f"Bearer {CANARY}", "X-Api-Key": CANARY, "Cookie": f"session={CANARY}"}

method, url = sys.argv[1:]
if method == "STREAM":
    asked = {"model": "m", "stream": True, "messages": []}
    answer = requests.post(url, json=asked, headers=HEADERS, stream=True, timeout=60)
    for line in answer.iter_lines(chunk_size=1):
        pathlib.Path(os.environ["FIRST"]).touch()
        print(line.decode())
else:
    answer = requests.request(method, url, headers=HEADERS, timeout=60)
    print(answer.text)
print(answer.status_code)
