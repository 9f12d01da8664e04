"""What machine is this, is it quiet, and is it ours alone."""
