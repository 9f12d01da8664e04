"""Results in other tools' formats: `vllm bench serve`, GuideLLM, PyTorch HUD and github-action-benchmark.

The modules named after a format are pure: values in, values out. `files` reads and writes.
"""
