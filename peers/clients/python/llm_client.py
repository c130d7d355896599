"""`llm`, the command, with a model of its own configuration."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from steps import CHAT_MODEL, CITY, KEY, POOR_KEY, RIVERS, RIVERS_ANSWER, URL, introduce, step

FOLDER = Path(tempfile.mkdtemp())
MODELS = f"""\
- model_id: faregate
  model_name: {CHAT_MODEL}
  api_base: {URL}/v1
  api_key_name: faregate
  supports_schema: true
  supports_tools: true
"""
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


def llm(*arguments: str, key: str = KEY) -> subprocess.CompletedProcess:
    (FOLDER / "extra-openai-models.yaml").write_text(MODELS)
    (FOLDER / "keys.json").write_text(json.dumps({"faregate": key}))
    return subprocess.run(
        [sys.executable, "-m", "llm", *arguments],
        env={**os.environ, "LLM_USER_PATH": str(FOLDER)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def said(*arguments: str) -> str:
    done = llm(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


introduce("llm", "openai")
with step("chat"):
    assert said("-m", "faregate", "--no-stream", RIVERS) == RIVERS_ANSWER
with step("stream"):
    assert said("-m", "faregate", RIVERS) == RIVERS_ANSWER
with step("json_schema"):
    assert json.loads(said("-m", "faregate", "--schema", json.dumps(SCHEMA), CITY))["name"] == "Paris"
with step("budget"):
    poor = llm("-m", "faregate", "--no-stream", RIVERS, key=POOR_KEY)
    assert poor.returncode == 1
    assert "budget" in poor.stderr, poor.stderr
