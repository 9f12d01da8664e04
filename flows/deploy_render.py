"""`redline deploy render`: what would be started or applied for one build, as text; nothing is, and no cluster asked.

A couple of files bring the whole thing up: for people who look before they leap, and for those who serve without
Redline.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from flows.bench import ArmSetup, order_of
from flows.machine import devices_of, on_class
from flows.plan import model_path
from flows.workspace import Workspace, content_root
from redline.builds.resolve import resolve
from redline.deploy.choice import DEPLOYERS, deployer_name
from redline.deploy.container_command import VENDORS
from redline.deploy.deployer import Order
from redline.deploy.manifests import MANIFESTS, manifest_files
from redline.deploy.manifests_text import yaml_text
from redline.errors import InfrastructureError, StoreError, UsageError
from redline.model import Arm, Device, RunnerClass, SystemUnderTest
from redline.runner.accelerators import OPENERS, Opener
from redline.whole_file import write_whole

RUN_ID = "rendered"
README = "README.md"
PLACEHOLDER = "GPU-UUID-"
"""How the UUID of an accelerator begins that this machine does not have."""


@dataclass(frozen=True, slots=True)
class RenderRequest:
    """What is to be rendered: a build on a class of runners, for a scenario, as one arm, with its extra arguments."""

    runner: str
    spec: str
    scenario: str
    arm: Arm
    extra_args: tuple[str, ...] = ()


def render(state_dir: Path, request: RenderRequest) -> str:
    """The manifests or command lines, as text.

    Raises: UsageError if the build cannot be served on this class (ContentError for a content file), BuildError if the
    build is none.
    """
    runner_class, order = rendered_order(state_dir, request)
    return render_order(order, deployer_name(runner_class, order.sut.pin))


def render_order(order: Order, deployer: str) -> str:
    """What a deployer would do for an order. Raises UsageError for an order that it cannot serve."""
    if deployer in MANIFESTS:
        return yaml_text(MANIFESTS[deployer](order))
    return _about_placeholders(order) + DEPLOYERS[deployer]().render(order)


def _about_placeholders(order: Order) -> str:
    """A comment that says what to put in the place of UUIDs that are none; '' where all are real."""
    names = [device.uuid for device in order.devices if device.uuid.startswith(PLACEHOLDER)]
    if not names:
        return ""
    return (
        f"# {names[0]} ... stand for the UUIDs of the host's {len(names)} accelerators, which are not this machine's:\n"
        "# there `redline doctor --json` names them, and this command prints them.\n"
    )


def shown_devices(runner_class: RunnerClass, openers: tuple[Opener, ...] = OPENERS) -> tuple[Device, ...]:
    """The accelerators that servers would be given: this machine's where it is of the class, else as many placeholders.

    () for CPUs and for clusters. `openers`: of the vendors' libraries. Raises UsageError as `devices_of`.
    """
    vendor = VENDORS.get(runner_class.platform)
    if vendor is None or runner_class.deployer != "host":
        return ()
    try:
        return devices_of(runner_class, openers)
    except InfrastructureError:  # another machine, or one without such accelerators
        count = max(1, runner_class.accelerator_count)
        return tuple(Device(vendor, each, f"{PLACEHOLDER}{each}", runner_class.accelerator, 0) for each in range(count))


def write_files(state_dir: Path, request: RenderRequest, folder: Path) -> Iterator[str]:
    """Lines that say what was written: one file an object, or one with the command lines, and how to use them.

    Raises as `render`; UsageError for a folder that holds something already, StoreError if it cannot be written.
    """
    runner_class, order = rendered_order(state_dir, request)
    deployer = deployer_name(runner_class, order.sut.pin)
    if deployer in MANIFESTS:
        files = manifest_files(MANIFESTS[deployer](order))
        files[README] = _readme(order, runner_class, request, list(files))
    else:
        files = {"commands.txt": render_order(order, deployer)}
    _require_empty(folder)
    for name, text in files.items():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / name, text)
        except OSError as error:
            raise StoreError(
                f"{folder / name} could not be written",
                expected="a folder to write to",
                found=str(error),
                next_step="make room for it, or name another folder",
            ) from error
        yield f"wrote {folder / name}"
    if deployer in MANIFESTS:
        yield f"nothing was applied; {folder / README} says how"


def rendered_order(state_dir: Path, request: RenderRequest) -> tuple[RunnerClass, Order]:
    """The runner class, and the order as a round would make it, of a build that need not be installed."""
    workspace = Workspace(content_root(), state_dir)
    runner_class = workspace.runner_class(request.runner)
    scenario = workspace.scenario(request.scenario)
    recipe = workspace.recipe(scenario.recipe).placed(runner_class, scenario)
    pin = on_class(resolve(request.spec, state_dir=state_dir), runner_class)
    sut = SystemUnderTest(pin, extra_args=request.extra_args)
    order = order_of(
        workspace,
        runner_class,
        recipe,
        ArmSetup(request.arm, sut, build=None),
        scenario,
        run_id=RUN_ID,
        pair_index=0,
        model=model_path(workspace, sut, recipe),
    )
    return runner_class, replace(order, devices=shown_devices(runner_class))


def _require_empty(folder: Path) -> None:
    """Refuse a folder in which other manifests could be applied along. Raises UsageError."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            f"{folder} holds something already",
            expected="a new or empty folder: everything in it is applied together",
            found=str(folder),
            next_step="name another folder, or empty this one",
        )


def _readme(order: Order, runner_class: RunnerClass, request: RenderRequest, names: list[str]) -> str:
    """How the files are applied, waited for and deleted, and what they are."""
    cluster = order.cluster
    namespace = cluster.namespace if cluster is not None else ""
    router = order.sut.router
    command = f"redline deploy render --runner {runner_class.name} --build {request.spec} --scenario {request.scenario}"
    lines = [
        f"# {order.recipe.name} on {runner_class.name}",
        "",
        f"Written by `{command}`. Nothing was applied.",
        "",
        f"- vLLM: `{order.sut.pin.url}`, {order.replica_count} x tensor parallel {order.tensor_parallel}",
        *([f"- router: `{router.image}`, configured in full in these files"] if router else []),
        "",
        "```console",
        f"$ kubectl apply -n {namespace} -f .      # {', '.join(names)}",
        f"$ kubectl get pods -n {namespace} --watch",
        f"$ kubectl delete -n {namespace} -f .",
        "```",
        "",
        "`redline run` applies the same objects under names of its own, measures, and deletes them.",
        "",
    ]
    return "\n".join(lines)
