"""httpx, with nothing set but the environment: METHOD URL, or STREAM URL."""

import os
import pathlib
import sys

import httpx

CANARY = os.environ["CANARY"]
HEADERS = {"Authorization": f"Bearer {CANARY}", "X-Api-Key": CANARY, "Cookie": f"session={CANARY}"}

method, url = sys.argv[1:]
if method == "STREAM":
    asked = {"model": "m", "stream": True, "messages": []}
    with httpx.stream("POST", url, json=asked, headers=HEADERS, timeout=60) as answer:
        for line in answer.iter_lines():
            pathlib.Path(os.environ["FIRST"]).touch()
            print(line)
else:
    answer = httpx.request(method, url, headers=HEADERS, timeout=60)
    print(answer.text)
print(answer.status_code)
