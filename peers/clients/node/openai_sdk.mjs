// openai (JavaScript), as an application uses it.

import assert from "node:assert/strict";
import OpenAI from "openai";
import * as s from "./steps.mjs";

const client = new OpenAI({ baseURL: s.URL_ + "/v1", apiKey: s.KEY });
const ask = (content) => [{ role: "user", content }];
const tools = [
  {
    type: "function",
    function: {
      name: "get_weather",
      strict: true,
      parameters: {
        type: "object",
        properties: { city: { type: "string" } },
        required: ["city"],
        additionalProperties: false,
      },
    },
  },
];
const format = {
  type: "json_schema",
  json_schema: {
    name: "City",
    strict: true,
    schema: {
      type: "object",
      properties: { name: { type: "string" }, country: { type: "string" }, population: { type: "integer" } },
      required: ["name", "country", "population"],
      additionalProperties: false,
    },
  },
};
const create = (text, more = {}, on = client) =>
  on.chat.completions.create({ model: s.CHAT_MODEL, messages: ask(text), ...more });

s.introduce("openai");

await s.step("chat", async () => {
  const answer = await create(s.RIVERS);
  assert.equal(answer.choices[0].message.content, s.RIVERS_ANSWER);
  assert.equal(answer.usage.prompt_tokens, 19);
  assert.match(answer._request_id, /^req_/);
});

await s.step("stream", async () => {
  let text = "";
  let usage;
  for await (const chunk of await create(s.RIVERS, { stream: true, stream_options: { include_usage: true } })) {
    text += chunk.choices[0]?.delta?.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, s.RIVERS_ANSWER);
  assert.equal(usage.total_tokens, 28);
});

await s.step("tools", async () => {
  const messages = ask(s.WEATHER);
  const first = await client.chat.completions.create({ model: s.CHAT_MODEL, messages, tools });
  const call = first.choices[0].message.tool_calls[0];
  assert.deepEqual(JSON.parse(call.function.arguments), { city: "Paris" });
  messages.push(first.choices[0].message, { role: "tool", tool_call_id: call.id, content: "21 degrees" });
  const second = await client.chat.completions.create({ model: s.CHAT_MODEL, messages, tools });
  assert.equal(second.choices[0].message.content, s.WEATHER_ANSWER);
});

await s.step("tools streamed", async () => {
  const stream = client.chat.completions.stream({ model: s.CHAT_MODEL, messages: ask(s.WEATHER), tools });
  const final = await stream.finalChatCompletion();
  assert.deepEqual(final.choices[0].message.tool_calls[0].function.parsed_arguments, { city: "Paris" });
});

await s.step("json_schema", async () => {
  const answer = await create(s.CITY, { response_format: format });
  assert.deepEqual(JSON.parse(answer.choices[0].message.content), s.PARIS);
});

await s.step("embeddings", async () => {
  const made = await client.embeddings.create({ model: s.EMBED_MODEL, input: "A river" });
  assert.deepEqual(made.data[0].embedding, [0.25, -0.5, 1, 0.125]);
});

await s.step("models", async () => {
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  assert.ok(names.includes(s.CHAT_MODEL));
});

await s.step("errors", async () => {
  await s.refused(OpenAI.BadRequestError, { status: 400, code: "refused_by_vendor" }, create(s.REFUSED));
  await s.refused(
    OpenAI.NotFoundError,
    { status: 404, code: "model_not_found" },
    create(s.RIVERS, { model: "gpt-4o-minimal" }),
  );
  const nobody = client.withOptions({ apiKey: "fg_live_nobody" });
  await s.refused(OpenAI.AuthenticationError, { status: 401, code: "invalid_api_key" }, create(s.RIVERS, {}, nobody));
});

await s.step("retry", async () => {
  assert.equal((await create(s.HICCUP)).choices[0].message.content, s.HICCUP_ANSWER);
});

await s.step("budget", async () => {
  const poor = client.withOptions({ apiKey: s.POOR_KEY });
  await s.refused(OpenAI.APIError, { status: 402, code: "budget_exceeded" }, create(s.RIVERS, {}, poor));
});
