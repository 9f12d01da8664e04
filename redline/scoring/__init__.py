"""How answers are scored. Pure: text in, numbers out; `scorers.scorer(name)` is the way in."""
