"""The smaller OpenAI endpoints, one file each."""
