"""tests/fakes/container_engine.py whose containers run tests/flows/counting_stand_in.py.

python -m tests.flows.counting_engine docker|podman STATE_DIR ARGUMENTS...
"""

import sys
from pathlib import Path

from tests.fakes import container_engine

if __name__ == "__main__":
    container_engine.STAND_IN = str(Path(__file__).with_name("counting_stand_in.py"))
    try:
        sys.exit(container_engine.EngineCommand(sys.argv[1], Path(sys.argv[2])).reply(sys.argv[3:]))
    except container_engine.Refusal as refusal:
        print(refusal, file=sys.stderr)
        sys.exit(refusal.status)
