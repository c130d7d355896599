"""Amazon Bedrock: its usage, in replies and in headers."""
