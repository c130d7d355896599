"""LangChain's own standard integration tests with ChatAnthropic; where the model is comes from the environment."""

import os

from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests


class TestChatAnthropic(ChatModelIntegrationTests):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatAnthropic

    @property
    def chat_model_params(self) -> dict:
        return {
            "model": "claude-sonnet-5",
            "base_url": os.environ["SUITE_URL"],
            "api_key": os.environ["SUITE_KEY"],
            "max_retries": 0,
        }

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True
