"""Who learns: one file per trainer, thin over TRL."""

import logging
import os

# Read by the libraries when they are imported: no phoning home, no notice that `rollout_func` is new.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# PEFT imports bitsandbytes wherever that is installed, which then tells of a package that it misses on a CPU.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
