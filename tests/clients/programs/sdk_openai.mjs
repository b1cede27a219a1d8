// The OpenAI SDK, with nothing set but the environment: `chat`, `stream`, or `files`, which no role covers.
import { writeFileSync } from "node:fs";
import OpenAI from "openai";

const client = new OpenAI();
const asked = { model: "m", messages: [{ role: "user", content: "hello" }] };
try {
  switch (process.argv[2]) {
    case "chat":
      console.log((await client.chat.completions.create(asked)).choices[0].message.content);
      break;
    case "stream":
      for await (const chunk of await client.chat.completions.create({ ...asked, stream: true })) {
        writeFileSync(process.env.FIRST, "");
        console.log(chunk.choices[0].delta.content);
      }
      break;
    case "files":
      await client.files.list();
  }
  console.log(200);
} catch (error) {
  if (!(error instanceof OpenAI.APIError)) throw error;
  console.log([error.message, error.code, error.status].join("\n"));
}
