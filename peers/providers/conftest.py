"""Every peer once, and one gateway in front of all of them, for the whole run."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import openai
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from live.running import Running, running
from proofs import routes
from stand_ins import Peer, aimock, litellm, llama, llmock


@pytest.fixture(scope="session")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Peer]]:
    folder = tmp_path_factory.mktemp("peers")
    with ExitStack() as stack:
        fake = stack.enter_context(aimock(folder))
        yield {
            "aimock": fake,
            "llmock": stack.enter_context(llmock(folder)),
            "litellm": stack.enter_context(litellm(folder, fake)),
            "llama": stack.enter_context(llama(folder)),
            "llama-embed": stack.enter_context(llama(folder, embedding=True)),
            # `running` starts our own simulated provider, and knows its port
            "simulator": Peer("simulator", "http://127.0.0.1:{port}"),
        }


@pytest.fixture(scope="session")
def gateway(peers: Mapping[str, Peer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with pytest.MonkeyPatch.context() as environment:
        for peer in peers.values():
            if peer.secret:
                environment.setenv(f"PEER_CREDENTIAL_{peer.name.upper()}", peer.secret)
                environment.setenv(f"PEER_WRONG_{peer.name.upper()}", "wrong-" + peer.secret)
        with running(tmp_path_factory.mktemp("gateway"), routes(peers)) as server:
            server.new_key("app")
            yield server


@pytest.fixture(scope="session")
def client(gateway: Running) -> Iterator[openai.OpenAI]:
    """The official SDK as an application uses it, without retries of its own."""
    with openai.OpenAI(base_url=gateway.url + "/v1", api_key=gateway.keys["app"], max_retries=0) as made:
        yield made
