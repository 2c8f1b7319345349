"""The supervised engine: whatever happens to the process, callers get the bytes of an undisturbed run, or one clear
error.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from camelid.engine.request import GenerateRequest
from camelid.errors import FormatError, InvalidRequest, Overloaded, RequestsFailed, Unavailable
from camelid.runtime.frames import Load
from camelid.runtime.supervisor import Endurance, SupervisedEngine
from camelid.runtime.watchdog import Patience
from camelid.settings import ModelSettings
from camelid.types import Sampling
from tests.runtime.fake_engine import END_ID, FAILS, HANGS, KILLS, KILLS_LATER, REFUSED, undisturbed

FAKE_WORKER = (sys.executable, str(Path(__file__).with_name("fake_engine.py")))
DEFAULT, PATIENT = ModelSettings(), Endurance()
IMPATIENT = Endurance(Patience(floor_s=0.4, first_factor=0.0), look_s=0.05, rest_s=0.0)
_T = TypeVar("_T")


def run(coroutine: Coroutine[Any, Any, _T]) -> _T:
    return asyncio.run(asyncio.wait_for(coroutine, 60))


@contextlib.asynccontextmanager
async def engine(
    path: str = "model", settings: ModelSettings = DEFAULT, endurance: Endurance = PATIENT
) -> AsyncIterator[SupervisedEngine]:
    supervised = SupervisedEngine(Load(path, settings, 100, 4096), endurance=endurance, command=FAKE_WORKER)
    await supervised.start()
    try:
        yield supervised
    finally:
        await supervised.close()


def request(name: str, *prompt: int, max_tokens: int = 40, num_choices: int = 1, seed: int = 1) -> GenerateRequest:
    return GenerateRequest(
        name, prompt or (5, 6), Sampling(seed=seed), max_tokens, num_choices=num_choices, end_ids=frozenset({END_ID})
    )


async def answers(supervised: SupervisedEngine, asked: GenerateRequest) -> list[list[int]]:
    """Return the ids per choice, checking that every token came once and in order."""
    got: list[list[int]] = [[] for _ in range(asked.num_choices)]
    async for tokens in supervised.generate(asked):
        for token in tokens:
            assert token.index == len(got[token.choice])
            got[token.choice].append(token.id)
    return got


def test_answers_come_through():
    async def go() -> None:
        async with engine() as supervised:
            asked = [request(f"r{n}", seed=n, num_choices=1 + n % 2) for n in range(5)]
            assert await asyncio.gather(*(answers(supervised, one) for one in asked)) == [
                undisturbed(one) for one in asked
            ]
            assert supervised.health().num_open == 0
            assert supervised.health().is_fresh

    run(go())


def test_streams_end_with_the_bytes_of_an_undisturbed_run_when_the_engine_is_killed_again_and_again():
    async def go() -> int:
        dice = random.Random(7)
        async with engine() as supervised:
            asked = [request(f"r{n}", seed=n, max_tokens=200, num_choices=1 + n % 2) for n in range(30)]
            streams = asyncio.gather(*(answers(supervised, one) for one in asked))
            kills = 0
            while not streams.done() and kills < 4:
                await asyncio.sleep(dice.uniform(0.0, 0.3))
                if supervised.health().is_fresh and not streams.done():
                    os.kill(supervised.pid, signal.SIGKILL)
                    kills += 1
            assert await streams == [undisturbed(one) for one in asked]
            assert supervised.health().num_restarts == kills
            return kills

    assert run(go()) >= 2


def test_a_stopped_engine_is_found_out_and_replaced():
    async def go() -> None:
        async with engine("slow-0.01", endurance=IMPATIENT) as supervised:
            asked = request("r", max_tokens=60)
            stream = supervised.generate(asked)
            got = [token.id for token in await anext(stream)]
            os.kill(supervised.pid, signal.SIGSTOP)
            got += [token.id async for tokens in stream for token in tokens]
            assert [got] == undisturbed(asked)
            assert supervised.health().num_restarts == 1

    run(go())


def test_an_engine_that_hangs_in_a_step_fails_only_the_request_it_hangs_on():
    async def go() -> None:
        async with engine(endurance=IMPATIENT) as supervised:
            good = request("good", max_tokens=2000)
            async with asyncio.TaskGroup() as group:
                fine = group.create_task(answers(supervised, good))
                with pytest.raises(RequestsFailed, match="the engine stopped 4 times while it worked on it"):
                    await answers(supervised, request("bad", HANGS))
            assert fine.result() == undisturbed(good)

    run(go())


@pytest.mark.parametrize("poison", [KILLS, KILLS_LATER])
def test_a_request_that_kills_the_engine_each_time_is_failed_alone(poison: int):
    async def go() -> None:
        async with engine() as supervised:
            good = [request(f"good{n}", seed=n, max_tokens=200) for n in range(4)]
            async with asyncio.TaskGroup() as group:
                fine = [group.create_task(answers(supervised, one)) for one in good]
                bad = group.create_task(_failure(supervised, request("bad", poison)))
            assert [task.result() for task in fine] == [undisturbed(one) for one in good]
            assert isinstance(bad.result(), RequestsFailed)
            again = request("after")
            assert await answers(supervised, again) == undisturbed(again)

    run(go())


async def _failure(supervised: SupervisedEngine, asked: GenerateRequest) -> BaseException | None:
    try:
        await answers(supervised, asked)
    except (RequestsFailed, Unavailable) as error:
        return error
    return None


def test_errors_of_the_engine_reach_the_request_they_belong_to():
    async def go() -> None:
        async with engine() as supervised:
            good = request("good", max_tokens=500)
            async with asyncio.TaskGroup() as group:
                fine = group.create_task(answers(supervised, good))
                with pytest.raises(InvalidRequest) as refused:
                    await answers(supervised, request("refused", REFUSED))
                with pytest.raises(RequestsFailed, match="its logits hold NaN"):
                    await answers(supervised, request("fails", FAILS))
            assert refused.value.field == "prompt"
            assert fine.result() == undisturbed(good)
            assert supervised.health().num_restarts == 0

    run(go())


def test_a_full_queue_refuses_the_next_request_and_no_other():
    async def go() -> None:
        async with engine("slow-0.005", ModelSettings(max_sequences=1, max_waiting=2)) as supervised:
            asked = [request(f"r{n}", seed=n) for n in range(3)]
            streams = [supervised.generate(one) for one in asked]
            firsts = [asyncio.ensure_future(anext(stream)) for stream in streams]
            await asyncio.sleep(0)
            with pytest.raises(Overloaded) as refused:
                await answers(supervised, request("late"))
            assert refused.value.retry_after_s > 0
            os.kill(supervised.pid, signal.SIGKILL)  # those admitted stay admitted
            for stream, first, one in zip(streams, firsts, asked, strict=True):
                got = [token.id for token in [*await first, *[token async for tokens in stream for token in tokens]]]
                assert [got] == undisturbed(one)

    run(go())


def test_closing_a_stream_frees_the_engine():
    async def go() -> None:
        async with engine("slow-0.01", ModelSettings(max_sequences=1)) as supervised:
            stream = supervised.generate(request("endless", max_tokens=10**6))
            await anext(stream)
            await stream.aclose()
            assert supervised.health().num_open == 0
            next_one = request("next")  # would wait for ever if the only place were not free
            assert await answers(supervised, next_one) == undisturbed(next_one)

    run(go())


def test_an_error_of_loading_is_the_same_error_here():
    async def go() -> None:
        with pytest.raises(FormatError) as caught:
            async with engine("broken"):
                pass
        assert caught.value.hint == "download it again"
        assert caught.value.violation.field == "magic"
        with pytest.raises(Unavailable, match="was ended by SIGKILL while it loaded the model"):
            async with engine("crashes"):
                pass

    run(go())


@pytest.mark.parametrize("is_asked", [True, False], ids=["when asked", "by itself"])
def test_an_engine_that_dies_over_and_over_is_given_up_and_tried_again_later(tmp_path: Path, is_asked: bool):
    """The worker's file is taken away: no new process can start."""
    script = tmp_path / "worker.py"
    content = f"import runpy\nrunpy.run_path({str(FAKE_WORKER[1])!r}, run_name='__main__')\n"
    script.write_text(content)

    async def go() -> None:
        endurance = Endurance(first_pause_s=0.001, rest_s=0.0, longest_rest_s=60.0 if is_asked else 0.1)
        load = Load("slow-0.01", ModelSettings(), 100, 4096)
        supervised = SupervisedEngine(load, endurance=endurance, command=(sys.executable, str(script)))
        await supervised.start()
        script.unlink()
        stream = supervised.generate(request("r", max_tokens=1000))
        await anext(stream)
        os.kill(supervised.pid, signal.SIGKILL)
        with pytest.raises(Unavailable, match="the engine stopped 8 times in a row"):
            async for _ in stream:
                pass
        assert not supervised.health().is_fresh
        script.write_text(content)
        while not (is_asked or supervised.health().is_fresh):
            await asyncio.sleep(0.01)
        asked = request("later")
        assert await answers(supervised, asked) == undisturbed(asked)
        await supervised.close()

    run(go())


def test_unloading_ends_open_requests_and_the_process():
    async def go() -> None:
        async with engine("slow-0.01") as supervised:
            pid = supervised.pid
            stream = supervised.generate(request("r", max_tokens=1000))
            await anext(stream)
            await supervised.close()
            with pytest.raises(Unavailable, match="the engine has ended"):
                async for _ in stream:
                    pass
            assert not _is_alive(pid)

    run(go())


FRONT = """
import asyncio, sys
from camelid.engine.request import GenerateRequest
from camelid.runtime.frames import Load
from camelid.runtime.supervisor import SupervisedEngine
from camelid.settings import ModelSettings
from camelid.types import Sampling

async def go():
    engine = SupervisedEngine(Load("model", ModelSettings(), 100, 4096), command=sys.argv[2:])
    await engine.start()
    request = GenerateRequest("r", (int(sys.argv[1]),), Sampling(), max_tokens=10)
    asyncio.ensure_future(anext(engine.generate(request)))
    await asyncio.sleep(0.1)
    print(engine.pid, flush=True)
    await asyncio.sleep(1e6)

asyncio.run(go())
"""


@pytest.mark.parametrize("prompt", [5, HANGS], ids=["idle", "in a step that hangs"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_engine_outlives_its_front(number: signal.Signals, prompt: int):
    with subprocess.Popen([sys.executable, "-c", FRONT, str(prompt), *FAKE_WORKER], stdout=subprocess.PIPE) as front:
        assert front.stdout is not None
        pid = int(front.stdout.readline())
        assert _is_alive(pid)
        front.send_signal(number)
        front.wait(10)
    wait_until_gone(pid)


def wait_until_gone(pid: int) -> None:
    run(_until_gone(pid))


async def _until_gone(pid: int) -> None:
    while _is_alive(pid):
        await asyncio.sleep(0.01)


def _is_alive(pid: int | None) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
