// @anthropic-ai/sdk, as an application uses it.

import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import * as s from "./steps.mjs";

const client = new Anthropic({ baseURL: s.URL_, apiKey: s.KEY });
const ask = (content, more = {}) => ({
  model: s.CLAUDE_MODEL,
  max_tokens: 200,
  messages: [{ role: "user", content }],
  ...more,
});
const tools = [
  {
    name: "get_weather",
    description: "Today's weather in a city.",
    input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
];

s.introduce("@anthropic-ai/sdk");

await s.step("messages", async () => {
  const answer = await client.messages.create(ask(s.RIVERS));
  assert.equal(answer.content[0].text, s.RIVERS_ANSWER);
  assert.equal(answer.usage.input_tokens, 19);
});

await s.step("stream", async () => {
  const stream = client.messages.stream(ask(s.RIVERS));
  assert.equal(await stream.finalText(), s.RIVERS_ANSWER);
});

await s.step("tools", async () => {
  const first = await client.messages.create(ask(s.WEATHER, { tools }));
  const call = first.content.find((block) => block.type === "tool_use");
  assert.deepEqual(call.input, { city: "Paris" });
  const second = ask(s.WEATHER, { tools });
  second.messages.push(
    { role: "assistant", content: first.content },
    { role: "user", content: [{ type: "tool_result", tool_use_id: call.id, content: "21 degrees" }] },
  );
  assert.equal((await client.messages.create(second)).content[0].text, s.WEATHER_ANSWER);
});

await s.step("tools streamed", async () => {
  const final = await client.messages.stream(ask(s.WEATHER, { tools })).finalMessage();
  assert.deepEqual(final.content.find((block) => block.type === "tool_use").input, { city: "Paris" });
});

await s.step("models", async () => {
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  assert.ok(names.includes(s.CLAUDE_MODEL));
});

await s.step("errors", async () => {
  await s.refused(Anthropic.BadRequestError, { status: 400 }, client.messages.create(ask(s.REFUSED)));
  await s.refused(
    Anthropic.NotFoundError,
    { status: 404 },
    client.messages.create(ask(s.RIVERS, { model: "claude-none" })),
  );
  const nobody = client.withOptions({ apiKey: "fg_live_nobody" });
  await s.refused(Anthropic.AuthenticationError, { status: 401 }, nobody.messages.create(ask(s.RIVERS)));
});

await s.step("retry", async () => {
  assert.equal((await client.messages.create(ask(s.HICCUP))).content[0].text, s.HICCUP_ANSWER);
});

await s.step("budget", async () => {
  const poor = client.withOptions({ apiKey: s.POOR_KEY });
  const error = await poor.messages.create(ask(s.RIVERS)).then(() => assert.fail("no error"), (reason) => reason);
  assert.ok(error instanceof Anthropic.APIError, String(error?.stack));
  assert.equal(error.status, 402);
});
