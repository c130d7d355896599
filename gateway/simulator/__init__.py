"""An OpenAI-shaped provider that says it is simulated: for the demo, the tests, and an outside log to compare with."""
