"""One run of the command: (1) check the choices, (2) load, (3) simulate, (4) draw, (5) write, (6) say what came out.

What must stay true: whatever can be refused is refused before the simulation starts; a file is there whole or as it
was before; what went wrong is on standard error, and standard output holds the answer only.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from stowplan_allocator import inputs, types
from stowplan_allocator.bench import report as measuring
from stowplan_allocator.simulate import (
    documents,
    engine,
    failures,
    loaders,
    manifests,
    pictures,
    records,
    report,
    style,
    summary,
    terminal,
    workload,
)
from stowplan_allocator.simulate.traces import openb, philly

USAGE, INTERRUPTED = 2, 130
STANDARD_OUTPUT = pathlib.Path("-")
# Distances between samples that people can read off an axis; of the time that the run will probably take.
_DISTANCES = (1, 5, 10, 30, 60, 300, 600, 1800, 3600, 7200, 21_600, 43_200, 86_400, 604_800)
_WANTED_SAMPLES = 800
_PHILLY_GPUS, _PHILLY_GPUS_PER_NODE = 560, 8
# Options that only one kind of input listens to.
_OF_FILES = ("duration", "level", "priority")
_OF_TRACES = {"trace_list": "openb", "gpus": "philly", "gpus_per_node": "philly"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """The options of the command line, under their names."""

    nodes: tuple[pathlib.Path, ...] = ()
    jobs: tuple[pathlib.Path, ...] = ()
    file: tuple[pathlib.Path, ...] = ()
    trace: str | None = None
    data: pathlib.Path | None = None
    trace_list: str | None = None
    gpus: int | None = None
    gpus_per_node: int | None = None
    first: int | None = None
    duration: int | None = None
    estimates: str = "given"
    level: tuple[tuple[str, str], ...] = ()
    priority: tuple[tuple[str, int], ...] = ()
    accelerator: str = "nvidia.com/gpu"
    product_label: str = "nvidia.com/gpu.product"
    strategy: str = types.Strategy.EXACT
    solver: str = "HiGHS"
    time_limit: float = 10.0
    gap: float = 1e-4
    order: str = types.QueueOrder.AGE
    preemption: str = types.Preemption.NEVER
    reserve_after: int | None = None
    seed: int = 0
    reasons: bool = True
    mean_time_between_failures: int | None = None
    repair_time: int = 3600
    checkpoint_every: int = 1800
    restart_cost: int = 60
    until: int | None = None
    sample_every: int | None = None
    json: pathlib.Path | None = None
    html: pathlib.Path | None = None
    png: pathlib.Path | None = None
    title: str = "Simulation"

    @property
    def settings(self) -> types.Settings:
        """How to plan."""
        return types.Settings(
            strategy=types.Strategy(self.strategy),
            solver=self.solver,
            time_limit_seconds=self.time_limit,
            gap_tolerance=self.gap,
            seed=self.seed,
            order=types.QueueOrder(self.order),
            preemption=types.Preemption(self.preemption),
            explain=self.reasons,
        )

    @property
    def failures(self) -> failures.Failures:
        """How nodes fail."""
        return failures.Failures(self.mean_time_between_failures or 0, self.repair_time)


def run(choices: Choices, *, command: str) -> int:
    """Do everything; the exit code."""
    try:
        check(choices)
        scenario = load(choices)
        terminal.remarks(scenario.notes)
        meter = measuring.Meter()
        with terminal.progress(len(scenario.submissions)) as on_progress:
            history = simulate(scenario, choices, on_progress=on_progress)
        _finish(history, choices=choices, scenario=scenario, command=command, meter=meter)
    except inputs.InputError as error:
        terminal.refuse(error)
        return USAGE
    except KeyboardInterrupt:
        terminal.remarks(["stopped; no file is half written"])
        return INTERRUPTED
    return 0


def check(choices: Choices) -> None:
    """Refuse what cannot work, before any work is done."""
    faults: list[inputs.Fault] = []
    files = choices.nodes or choices.jobs or choices.file
    if choices.trace and files:
        fault = inputs.Fault("--trace", "it stands beside --nodes, --jobs or --file", "give a trace or files")
        faults.append(fault)
    if bool(choices.trace) != bool(choices.data):
        fault = inputs.Fault("--data", "--trace and --data belong together", "give --trace NAME --data PATH")
        faults.append(fault)
    if not files and not choices.trace and not choices.data:
        fix = "give --nodes FILE --jobs FILE, --file FILE, or --trace NAME --data PATH"
        faults.append(inputs.Fault("", "there is nothing to simulate", fix))
    faults += _unheard(choices)
    faults += _targets(choices)
    if choices.html or choices.png:
        try:
            pictures.require()
        except inputs.InputError as error:
            faults += error.faults
    if choices.settings.strategy is not types.Strategy.GREEDY:
        from stowplan_allocator import model

        try:
            model.make_solver(choices.settings, limit_seconds=1.0)
        except ValueError as error:
            faults.append(inputs.Fault("--solver", str(error)))
    inputs.refuse(faults)


def _unheard(choices: Choices) -> Iterable[inputs.Fault]:
    """Options that would be ignored."""
    for name, trace in _OF_TRACES.items():
        if getattr(choices, name) is not None and choices.trace != trace:
            yield inputs.Fault(f"--{name.replace('_', '-')}", f"it is for --trace {trace}", "leave it out")
    for name in _OF_FILES:
        if choices.trace and getattr(choices, name):
            yield inputs.Fault(f"--{name}", "a trace does not ask for it", "leave it out")


def _targets(choices: Choices) -> Iterable[inputs.Fault]:
    named = [("--json", choices.json), ("--html", choices.html), ("--png", choices.png)]
    targets = [(name, path) for name, path in named if path is not None and (name, path) != ("--json", STANDARD_OUTPUT)]
    for index, (name, path) in enumerate(targets):
        if path in [other for _, other in targets[:index]]:
            yield inputs.Fault(name, f"{path} is written twice", "give every result a file of its own")
        if path.is_dir():
            yield inputs.Fault(name, f"{path} is a folder", "name a file in it")
        elif path.exists() and not path.is_file():
            yield inputs.Fault(name, f"{path} is no ordinary file", "name a file; --json - is standard output")
        elif not path.parent.is_dir():
            yield inputs.Fault(name, f"there is no folder {path.parent}", "make it first")
        elif not os.access(path.parent, os.W_OK):
            yield inputs.Fault(name, f"nothing can be written into {path.parent}", "name another folder")


def load(choices: Choices) -> loaders.Scenario:
    """What the inputs hold, as far as the choices want it."""
    scenario = _read(choices)
    try:
        workload.check(scenario.submissions)
    except ValueError as error:
        raise inputs.InputError([inputs.Fault("", str(error))]) from None
    ordered = sorted(scenario.submissions, key=lambda one: (one.submitted_seconds, one.job.id))[: choices.first]
    if choices.estimates != "given":
        told = choices.estimates == "true"
        ordered = [
            dataclasses.replace(
                one, job=dataclasses.replace(one.job, expected_seconds=one.duration_seconds if told else None)
            )
            for one in ordered
        ]
    return dataclasses.replace(scenario, submissions=tuple(ordered))


def _read(choices: Choices) -> loaders.Scenario:
    if choices.trace == "openb" and choices.data:
        return openb.scenario(choices.data, name=choices.trace_list or "default")
    if choices.trace == "philly" and choices.data:
        num_gpus, per_node = choices.gpus or _PHILLY_GPUS, choices.gpus_per_node or _PHILLY_GPUS_PER_NODE
        return philly.scenario(choices.data, num_gpus=num_gpus, per_node=per_node)
    usual = manifests.Reading()
    known = dict(usual.levels)
    levels = tuple((name, label or known.get(name, name)) for name, label in choices.level)
    return loaders.load(
        loaders.Request(
            nodes=choices.nodes,
            jobs=choices.jobs,
            files=choices.file,
            levels=tuple(name for name, _ in levels),
            reading=manifests.Reading(levels or usual.levels, choices.accelerator, choices.product_label),
            priorities=dict(choices.priority),
            duration=choices.duration,
        )
    )


def simulate(
    scenario: loaders.Scenario, choices: Choices, *, on_progress: engine.Progress | None = None
) -> records.History:
    """Run the scenario as chosen."""
    start = min((one.submitted_seconds for one in scenario.submissions), default=0)
    options = engine.Options(
        levels=scenario.levels,
        seed=choices.seed,
        sample_every_seconds=choices.sample_every or sample_distance(scenario, until=choices.until),
        ends_at_seconds=None if choices.until is None else start + choices.until,
        failures=choices.failures,
        restarts=failures.Restarts(choices.checkpoint_every, choices.restart_cost),
        queues=scenario.queues,
        reserve_after_seconds=(
            scenario.reserve_after_seconds if choices.reserve_after is None else choices.reserve_after
        ),
    )
    return engine.simulate(
        scenario.nodes, scenario.submissions, settings=choices.settings, options=options, on_progress=on_progress
    )


def sample_distance(scenario: loaders.Scenario, *, until: int | None) -> int:
    """A distance at which the time that the run will probably take has some hundred samples."""
    submissions = scenario.submissions
    came = [one.submitted_seconds for one in submissions]
    longest = max((one.duration_seconds for one in submissions), default=0)
    room = sum(node.available.accelerators for node in scenario.nodes)
    work = sum(one.duration_seconds * one.job.num_pods * one.job.pod.accelerators for one in submissions)
    span = max(max(came, default=0) - min(came, default=0) + longest, work // room if room else 0)
    span = span if until is None else min(span, until)
    return next((one for one in _DISTANCES if one * _WANTED_SAMPLES >= span), _DISTANCES[-1])


def _finish(
    history: records.History,
    *,
    choices: Choices,
    scenario: loaders.Scenario,
    command: str,
    meter: measuring.Meter,
) -> None:
    """Draw, write, say what came out."""
    away = summary.downtimes(history, model=choices.failures, seed=choices.seed)
    given = {name: _plain(value) for name, value in dataclasses.asdict(choices).items() if name not in _RESULTS}
    versions = measuring.versions()
    about = {"command": command, "inputs": given, "versions": versions, **meter.reading()}
    document = documents.write(history, about=about, downtimes=away)
    if choices.json == STANDARD_OUTPUT:
        terminal.write(document)
    written: list[pathlib.Path] = []
    try:
        # The records come first: they are what a run of hours is for, and the pictures can be drawn again.
        if choices.json and choices.json != STANDARD_OUTPUT:
            write_whole(choices.json, (piece.encode() for piece in document))
            written.append(choices.json)
        if choices.html or choices.png:
            told = report.About(choices.title, command, given, versions, scenario.notes)
            for path, drawn in _drawings(style.View(history, away), told, choices=choices):
                write_whole(path, [drawn])
                written.append(path)
    finally:
        if choices.json != STANDARD_OUTPUT:
            terminal.show(history, written=written)


def _drawings(view: style.View, about: report.About, *, choices: Choices) -> Iterator[tuple[pathlib.Path, bytes]]:
    if choices.html:
        yield choices.html, report.page(view, about=about).encode()
    if choices.png:
        yield choices.png, report.sheet(view, about=about)


_RESULTS = ("json", "html", "png", "title")


def _plain(value: object) -> object:
    """An option's value as JSON has it."""
    if isinstance(value, pathlib.Path):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value


def write_whole(path: pathlib.Path, pieces: Iterable[bytes]) -> None:
    """The file whole, or not at all: under another name first, then renamed. A link goes on pointing to it."""
    path = path.resolve()
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as stream:
            temporary = pathlib.Path(stream.name)
            try:
                for piece in pieces:
                    stream.write(piece)
                stream.flush()
                mask = os.umask(0)
                os.umask(mask)
                temporary.chmod(0o666 & ~mask)
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        fault = inputs.Fault(str(path), f"it cannot be written: {error.strerror}", "name another file")
        raise inputs.InputError([fault]) from None
