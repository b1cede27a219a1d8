"""The OpenAI SDK, with nothing set but the environment: `chat`, `stream`, or `files`, which no role covers."""

import os
import pathlib
import sys

import openai

client = openai.OpenAI()
asked = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
try:
    match sys.argv[1]:
        case "chat":
            print(client.chat.completions.create(**asked).choices[0].message.content)
        case "stream":
            for chunk in client.chat.completions.create(**asked, stream=True):
                pathlib.Path(os.environ["FIRST"]).touch()
                print(chunk.choices[0].delta.content)
        case "files":
            client.files.list()
    print(200)
except openai.APIStatusError as error:
    print(error.message, error.code, error.status_code, sep="\n")
