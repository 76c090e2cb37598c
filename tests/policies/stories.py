"""How a story is played: line after line, until one does not hold.

What must stay true: expectations that follow each other hold together, and still hold after the operator has planned
once more; whoever reads a failure sees the story, the line, what was found there, and how all jobs stand.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Concatenate

from policies.stage import PATIENCE_SECONDS, Json, Stage


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """One line: it does something (``act``), or says what is not as it should be, empty where all is (``look``)."""

    text: str
    act: Callable[[Stage], None] | None = None
    look: Callable[[Stage], str] | None = None
    nodes: Mapping[str, Json] = dataclasses.field(default_factory=dict)
    jobs: Sequence[tuple[str, Json]] = ()
    settings: Mapping[str, Json] = dataclasses.field(default_factory=dict)


Story = Sequence[Line]


def settings_of(story: Story) -> dict[str, Json]:
    """The settings of the operator for which the story asks."""
    return {name: one for line in story for name, one in line.settings.items()}


def play(stage: Stage, sentence: str, story: Story) -> None:
    """The whole story; an AssertionError shows it, the line that does not hold, and how all jobs stand."""
    __tracebackhide__ = True
    nodes = {name: body for line in story for name, body in line.nodes.items()}
    stage.begin(nodes=nodes, num_jobs=sum(len(line.jobs) for line in story), settings=settings_of(story))
    at = 0
    while at < len(story):
        act = story[at].act
        if act is not None:
            _on_failure(lambda act=act: act(stage), stage, sentence, story, at)
            at += 1
            continue
        together = at
        while together < len(story) and story[together].act is None:
            together += 1
        _expect(stage, sentence, story, range(at, together))
        at = together


def _expect(stage: Stage, sentence: str, story: Story, which: Iterable[int]) -> None:
    __tracebackhide__ = True
    wanted = [(number, look) for number in which if (look := story[number].look) is not None]

    def wrong() -> tuple[int, str] | None:
        return next(((number, found) for number, look in wanted if (found := look(stage))), None)

    deadline = time.monotonic() + PATIENCE_SECONDS
    while wanted:
        try:
            stage.world.wait(sentence, lambda: wrong() is None, seconds=deadline - time.monotonic())
            stage.wait_for_another_plan()
        except TimeoutError as error:
            number, found = wrong() or (wanted[0][0], str(error))
            raise AssertionError(_shown(stage, sentence, story, number, found)) from None
        if wrong() is None:
            return


def _on_failure(act: Callable[[], None], stage: Stage, sentence: str, story: Story, number: int) -> None:
    __tracebackhide__ = True
    try:
        act()
    except (TimeoutError, AssertionError, KeyError) as error:
        raise AssertionError(_shown(stage, sentence, story, number, repr(error))) from error


def _shown(stage: Stage, sentence: str, story: Story, number: int, found: str) -> str:
    lines = [f"{'-->' if at == number else '   '} {line.text}" for at, line in enumerate(story)]
    lines.insert(number + 1, f"    found: {found}")
    return "\n".join([sentence, *lines, "now:", stage.picture()])


def act[**P](do: Callable[Concatenate[Stage, P], None]) -> Callable[P, Line]:
    """A word for something that happens."""

    def line(*args: P.args, **kwargs: P.kwargs) -> Line:
        return Line(text_of(do, args, kwargs), act=lambda stage: do(stage, *args, **kwargs))

    return line


def look[**P](found: Callable[Concatenate[Stage, P], str]) -> Callable[P, Line]:
    """A word for what can be seen: what is not as it should be, in words."""

    def line(*args: P.args, **kwargs: P.kwargs) -> Line:
        return Line(text_of(found, args, kwargs), look=lambda stage: found(stage, *args, **kwargs))

    return line


def text_of(function: Callable[..., object], args: Sequence[object], kwargs: Mapping[str, object]) -> str:
    """The line as it is written."""
    told = [repr(arg) for arg in args] + [f"{name}={value!r}" for name, value in kwargs.items()]
    return f"{function.__name__}({', '.join(told)})"
