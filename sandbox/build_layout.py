"""The step between a fresh box and the agent's first command: the episode's build of the packages is put in place."""

from devnull.sandbox.errors import InfrastructureError
from devnull.sandbox.runtime import Session
from devnull.sandbox.session import HARNESS_SECONDS
from devnull.sandbox.task import Instance


def lay_out_build(session: Session, instance: Instance) -> None:
    """Runs `Instance.setup` in a fresh box, outside any transcript and whatever the commands' time limit.

    Raises `InfrastructureError` if the image holds no such build, `BoxDied` if the box ends.
    """
    result = session.run(instance.setup, timeout=HARNESS_SECONDS)
    if result.exit_code != 0:
        raise InfrastructureError(
            f"{instance.task.name}: laying out the {instance.build} build ended with exit status "
            f"{result.exit_code}: {result.shown.strip()[-300:]!r}; rebuild the image: devnull image build"
        )
