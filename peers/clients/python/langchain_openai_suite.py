"""LangChain's own standard integration tests with ChatOpenAI; where the model is comes from the environment."""

import os

from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests


class TestChatOpenAI(ChatModelIntegrationTests):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict:
        return {
            "model": "gpt-4o-mini",
            "base_url": os.environ["SUITE_URL"] + "/v1",
            "api_key": os.environ["SUITE_KEY"],
            "stream_usage": True,
            "use_responses_api": bool(os.environ.get("SUITE_RESPONSES")),
            "max_retries": 0,
        }

    @property
    def supports_json_mode(self) -> bool:
        return True
