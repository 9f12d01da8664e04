"""A caller that serves an order with any deployer and then waits to be killed; prints its endpoint, one JSON line.

Argument: a pickled (name in DEPLOYERS, Order). What it deploys to is said in its environment (PATH, KUBECONFIG).
"""

import dataclasses
import json
import pickle
import sys
import time
from pathlib import Path

from redline.deploy.choice import DEPLOYERS

if __name__ == "__main__":
    name, order = pickle.loads(Path(sys.argv[1]).read_bytes())  # noqa: S301 - written by the test that runs this
    with DEPLOYERS[name]().deploy(order, lambda line: print(line, file=sys.stderr, flush=True)) as deployment:
        print(json.dumps(dataclasses.asdict(deployment.wait_ready())), flush=True)
        time.sleep(600)
