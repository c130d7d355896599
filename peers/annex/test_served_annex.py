"""`faregate serve` with routes of kind annex and the real litellm: nothing else has to be started or configured."""

from __future__ import annotations

import re

from annex.killing import verified
from live.running import running
from vendors import ACCESS_KEY, ANSWER, CLAUDE, GEMINI, PYTHON, QUESTION, SECRET_KEY, TOKENS_IN, Vendors

ROUTES = """\
providers:
  aws:
    kind: annex
    options:
      aws_region_name: eu-central-1
      aws_access_key_id: env:TEST_AWS_ID
      aws_secret_access_key: env:TEST_AWS_SECRET
      aws_bedrock_runtime_endpoint: RELAY
  google:
    kind: annex
    options:
      api_base: RELAY
      vertex_project: p1
      vertex_location: europe-west1
      vertex_credentials: KEYFILE
models:
  claude: aws/CLAUDE
  gemini-*: google/vertex_ai/gemini-*
"""


def test_bedrock_and_vertex_behind_faregate_serve(world: Vendors, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TEST_AWS_ID", ACCESS_KEY)
    monkeypatch.setenv("TEST_AWS_SECRET", SECRET_KEY)
    keyfile = tmp_path / "google.json"
    keyfile.write_text(world.account)
    routes = ROUTES.replace("RELAY", world.relay).replace("KEYFILE", str(keyfile)).replace("CLAUDE", CLAUDE)
    with running(tmp_path, routes, annex_python=str(PYTHON)) as server:
        key = server.new_key("app")
        for model in ("claude", GEMINI.removeprefix("vertex_ai/")):
            body = {"model": model, "messages": [{"role": "user", "content": QUESTION}]}
            reply = server.call("POST", "/v1/chat/completions", body, key)
            assert reply.status == 200, (reply.body, server.log())
            assert reply.json["choices"][0]["message"]["content"] == ANSWER
            assert reply.json["usage"]["prompt_tokens"] == TOKENS_IN
            streamed = server.call("POST", "/v1/chat/completions", {**body, "stream": True}, key)
            assert streamed.body.endswith(b"data: [DONE]\n\n"), streamed.body
        assert re.search(r"open holds\)\s+0\n", verified(server))
        assert SECRET_KEY not in server.log()
