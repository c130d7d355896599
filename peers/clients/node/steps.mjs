// The same as steps.py: one JSON line per step, on standard output.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import assert from "node:assert/strict";

export const URL_ = process.env.CLIENT_GATEWAY_URL;
export const KEY = process.env.CLIENT_KEY;
export const POOR_KEY = process.env.CLIENT_POOR_KEY;
export const CHAT_MODEL = "gpt-4o-mini";
export const EMBED_MODEL = "text-embedding-3-small";
export const CLAUDE_MODEL = "claude-sonnet-5";
export const RIVERS = "Name three rivers.";
export const RIVERS_ANSWER = "The Rhine, the Elbe and the Oder.";
export const WEATHER = "What is the weather in Paris?";
export const WEATHER_ANSWER = "It is 21 degrees in Paris.";
export const CITY = "Describe Paris.";
export const REFUSED = "Refuse this.";
export const HICCUP = "Hiccup";
export const HICCUP_ANSWER = "Better now.";
export const PARIS = { name: "Paris", country: "France", population: 2102650 };

const tell = (members) => process.stdout.write(JSON.stringify(members) + "\n");

export function introduce(...packages) {
  const versions = {};
  for (const name of packages) {
    const file = join(process.env.CLIENT_NODE_MODULES, name, "package.json");
    versions[name] = JSON.parse(readFileSync(file, "utf8")).version;
  }
  tell({ versions, runtime: "Node " + process.versions.node });
}

// A failure ends the step, not the program: the judge shall see all of them.
export async function step(name, body) {
  try {
    await body();
    tell({ step: name, ok: true });
  } catch (error) {
    tell({ step: name, ok: false, said: String(error?.stack ?? error).slice(-3000) });
  }
}

// The promise must be rejected by an error of this class with these members.
export async function refused(kind, members, promise) {
  const error = await promise.then(
    () => assert.fail(`no ${kind.name}`),
    (reason) => reason,
  );
  assert.equal(error.constructor.name, kind.name, String(error?.stack));
  for (const [name, value] of Object.entries(members)) assert.deepEqual(error[name], value, name);
  return error;
}
