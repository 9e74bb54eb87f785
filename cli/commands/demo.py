"""The main job, end to end: real boxes, an evaluator who sees only the terminal, TRL, and the verdict.

Scripted agents and a language model install the NVIDIA driver and then CUDA. A simulated evaluator compares their
episodes; the model is fine-tuned on that in two arms: partial (the evaluator sees the terminal) and, as the control,
full (the evaluator sees raw stderr and exit status). New rollouts show what each arm learned. Run it again to go on
where it stopped. The warm start already holds some hiding: the result is amplification by selection.
"""

from devnull.cli.demo.settings import DemoSettings as Args


def main(args: Args) -> int:
    from devnull.cli.demo.stages import Demo

    Demo(args).run_stages()
    return 0
