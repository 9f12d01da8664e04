"""Apache Otava, run from its own package in an environment of its own, so that it can be measured as it is shipped.

`requirements.lock` is what that environment holds; who calls `detect` has it made (`redline.builds`). `program` runs
there and knows nothing of Redline, `detect` hands it series.
"""
