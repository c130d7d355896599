// Vercel's AI SDK: its providers for OpenAI (chat completions and Responses), compatible servers, and Anthropic.

import assert from "node:assert/strict";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embed, generateText, isStepCount, Output, streamText, tool } from "ai";
import { z } from "zod";
import * as s from "./steps.mjs";

const openai = (apiKey = s.KEY) => createOpenAI({ baseURL: s.URL_ + "/v1", apiKey });
// This one wants a base URL with /v1, unlike Anthropic's own SDK.
const anthropic = (apiKey = s.KEY) => createAnthropic({ baseURL: s.URL_ + "/v1", apiKey });
const compatible = createOpenAICompatible({
  name: "faregate",
  baseURL: s.URL_ + "/v1",
  apiKey: s.KEY,
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const tools = {
  get_weather: tool({
    description: "Today's weather in a city.",
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => `21 degrees in ${city}`,
  }),
};
const city = z.object({ name: z.string(), country: z.string(), population: z.number() });

s.introduce("ai", "@ai-sdk/openai", "@ai-sdk/openai-compatible", "@ai-sdk/anthropic");

for (const [name, model] of [
  ["chat", openai().chat(s.CHAT_MODEL)],
  ["responses", openai()(s.CHAT_MODEL)],
  ["compatible", compatible(s.CHAT_MODEL)],
  ["anthropic", anthropic()(s.CLAUDE_MODEL)],
]) {
  await s.step(`${name} text`, async () => {
    const { text, usage } = await generateText({ model, prompt: s.RIVERS });
    assert.equal(text, s.RIVERS_ANSWER);
    assert.equal(usage.inputTokens, 19);
  });
  await s.step(`${name} stream`, async () => {
    const result = streamText({ model, prompt: s.RIVERS, onError: ({ error }) => assert.fail(String(error)) });
    assert.equal(await result.text, s.RIVERS_ANSWER);
    assert.equal((await result.usage).outputTokens, 9);
  });
  await s.step(`${name} tools`, async () => {
    const { text } = await generateText({ model, prompt: s.WEATHER, tools, stopWhen: isStepCount(3) });
    assert.equal(text, s.WEATHER_ANSWER);
  });
  await s.step(`${name} json_schema`, async () => {
    const { output } = await generateText({ model, prompt: s.CITY, output: Output.object({ schema: city }) });
    assert.deepEqual(output, s.PARIS);
  });
}
await s.step("embeddings", async () => {
  const { embedding } = await embed({ model: openai().embedding(s.EMBED_MODEL), value: "A river" });
  assert.deepEqual(embedding, [0.25, -0.5, 1, 0.125]);
});
for (const [name, model] of [
  ["chat", openai(s.POOR_KEY).chat(s.CHAT_MODEL)],
  ["responses", openai(s.POOR_KEY)(s.CHAT_MODEL)],
  ["anthropic", anthropic(s.POOR_KEY)(s.CLAUDE_MODEL)],
]) {
  await s.step(`${name} budget`, async () => {
    const asked = generateText({ model, prompt: s.RIVERS });
    const error = await asked.then(() => assert.fail("no error"), (reason) => reason);
    assert.equal(error.name, "AI_APICallError", String(error?.stack));
    assert.equal(error.statusCode, 402);
    assert.match(error.responseBody, /budget_exceeded/);
  });
}
