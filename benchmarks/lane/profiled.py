"""The payments service as `billbus run payments` starts it, sampled; `profile_lane` runs it."""

import atexit
import json
import os
from pathlib import Path

from benchmarks.stages import Sampler
from services.bus.service import run
from services.bus.settings import load_settings
from services.payments.app import build


def main() -> None:
    sampler = Sampler()
    atexit.register(write, sampler, Path(os.environ["BENCH_PROFILE"]))
    settings = load_settings(service="payments")
    sampler.start()
    run(build, settings)


def write(sampler: Sampler, path: Path) -> None:
    sampler.stop()
    functions = [[stage, name, spent] for (stage, name), spent in sampler.by_function.most_common()]
    path.write_text(json.dumps({"stages": sampler.seconds, "functions": functions}))


if __name__ == "__main__":
    main()
