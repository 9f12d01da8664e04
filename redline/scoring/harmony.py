"""The final channel of an answer in OpenAI's harmony format, which gpt-oss writes: reasoning is no answer."""

from __future__ import annotations

import re

_CHANNEL = "<|channel|>"
_FINAL = re.compile(r"<\|channel\|>final[^<]*+<\|message\|>")  # the name may be damaged: `final 537<|message|>`
_END = re.compile(r"<\|(?:return|end|start|channel|call)\|>")


def final_text(answer: str) -> str | None:
    """What the last final channel says, stripped; the whole answer if it has no channels; None if none is final.

    None is an answer that was cut off while the model was still reasoning. A server that leaves special
    tokens out of its text (vLLM's default: skip_special_tokens) leaves the channels' marks out with them.
    Source: the harmony format of gpt-oss. MLPerf's eval_accuracy.py takes the whole text, reasoning
    included, where there is no final channel or it holds no answer; here a draft is not an answer.
    """
    if _CHANNEL not in answer:
        return answer.strip()
    starts = [match.end() for match in _FINAL.finditer(answer)]
    if not starts:
        return None
    text = answer[starts[-1] :]
    end = _END.search(text)
    return text[: end.start()].strip() if end else text.strip()
