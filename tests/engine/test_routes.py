"""The routes over the engine, through HTTP in the process."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from PIL import Image
from starlette.types import Message, Receive, Scope, Send

from latentd.engine.events import Event
from latentd.engine.executor import Engine
from latentd.engine.job import Job
from latentd.errors import LatentdError
from latentd.images.codecs import encode_base64
from latentd.options.store import OptionStore
from latentd.server.errors import render
from latentd.server.routes import events, internal, jobs, progress
from latentd.settings import Settings
from latentd.types import GeneratedImage, Result

STATE = [
    "skipped",
    "interrupted",
    "stopping_generation",
    "job",
    "job_count",
    "job_timestamp",
    "job_no",
    "sampling_step",
    "sampling_steps",
]
Client = Callable[[], httpx.AsyncClient]


@pytest.fixture
def app(engine: Engine) -> FastAPI:
    options = OptionStore()

    async def encode_image(image: Image.Image) -> str:
        return await asyncio.to_thread(partial(encode_base64, image, format=options["samples_format"]))

    services = SimpleNamespace(
        engine=engine, options=options, encode_image=encode_image, settings=Settings(), startup_seconds={"routes": 0.25}
    )
    app = FastAPI()
    app.add_exception_handler(LatentdError, lambda request, error: render(error))  # type: ignore[arg-type]
    for family in (progress, internal, jobs, events):
        app.include_router(family.router(services))
    return app


@pytest.fixture
def client(app: FastAPI) -> Client:
    return lambda: httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


def picture(job: Job[Any]) -> Result:
    image = GeneratedImage(
        image=Image.new("RGB", (8, 6), "red"), infotext="a red dot", info={"parameters": "a red dot"}, seed=5
    )
    return Result(images=(image,), info={})


def test_idle_answers_as_recorded(client: Client) -> None:
    async def main() -> dict[str, Any]:
        async with client() as http:
            return dict((await http.get("/sdapi/v1/progress")).json())

    reply = asyncio.run(main())
    assert list(reply) == ["progress", "eta_relative", "state", "current_image", "textinfo"]
    assert list(reply["state"]) == STATE
    assert (reply["progress"], reply["eta_relative"], reply["current_image"], reply["textinfo"]) == (0, 0, None, None)


def test_interrupt_and_skip_have_a1111s_replies_and_are_harmless_when_idle(client: Client) -> None:
    async def main() -> list[Any]:
        async with client() as http:
            replies = [await http.post("/sdapi/v1/interrupt"), await http.post("/sdapi/v1/skip")]
            state = (await http.get("/sdapi/v1/progress")).json()["state"]
            return [*((r.status_code, r.json()) for r in replies), state["interrupted"], state["skipped"]]

    assert asyncio.run(main()) == [(200, {}), (200, None), True, True]


def test_a_running_job_shows_progress_and_preview_until_it_is_interrupted(
    client: Client, engine: Engine, sampling: Any
) -> None:
    work = sampling(steps=10)

    async def main() -> None:
        job = engine.submit(work, kind="txt2img", task_id="task(golden)")
        await asyncio.to_thread(work.reached)
        await asyncio.to_thread(work.go, 5)
        job.set_preview(Image.new("RGB", (4, 4), "blue"))
        async with client() as http:
            shown = (await http.get("/sdapi/v1/progress")).json()
            assert shown["progress"] == pytest.approx(0.51)
            preview = Image.open(io.BytesIO(base64.b64decode(shown["current_image"])))
            assert (preview.size, preview.format) == ((4, 4), "PNG")
            without = (await http.get("/sdapi/v1/progress", params={"skip_current_image": "true"})).json()
            assert without["current_image"] is None
            one = (await http.get("/sdapi/v1/progress", params={"id_task": "task(golden)"})).json()
            assert one["state"]["sampling_step"] == 5
            assert (await http.get("/sdapi/v1/progress", params={"id_task": "no"})).status_code == 404
            await http.post("/sdapi/v1/interrupt")
            work.finish()
            assert await job.wait() == [5]
            idle = (await http.get("/sdapi/v1/progress")).json()
            assert (idle["progress"], idle["state"]["interrupted"], idle["state"]["job"]) == (0, True, "")

    asyncio.run(main())


def test_internal_progress_follows_a_task_from_the_queue_to_its_end(
    client: Client, engine: Engine, sampling: Any
) -> None:
    first, second = sampling(steps=10), sampling()

    async def main() -> None:
        running = engine.submit(first, kind="txt2img", task_id="one")
        waiting = engine.submit(second, kind="txt2img", task_id="two")
        await asyncio.to_thread(first.reached)
        await asyncio.to_thread(first.go, 5)
        running.set_preview(Image.new("RGB", (4, 4)))

        async with client() as http:

            async def ask(**body: Any) -> dict[str, Any]:
                return dict((await http.post("/internal/progress", json=body)).json())

            active = await ask(id_task="one", id_live_preview=-1)
            assert (active["active"], active["queued"], active["completed"]) == (True, False, False)
            assert active["progress"] == pytest.approx(0.5)
            assert active["eta"] > 0
            assert active["live_preview"].startswith("data:image/png;base64,")
            assert active["id_live_preview"] == 1
            again = await ask(id_task="one", id_live_preview=1)
            assert again["live_preview"] is None
            assert again["id_live_preview"] == 1
            assert (await ask(id_task="one", live_preview=False))["live_preview"] is None

            queued = await ask(id_task="two")
            assert queued == {
                "active": False,
                "queued": True,
                "completed": False,
                "progress": None,
                "eta": None,
                "live_preview": None,
                "id_live_preview": -1,
                "textinfo": "In queue: 1/1",
            }
            assert (await http.get("/internal/pending-tasks")).json() == {"size": 1, "tasks": ["two"]}
            assert (await ask(id_task="unknown"))["textinfo"] == "Waiting..."
            first.finish()
            second.finish()
            await waiting.wait()
            done = await ask(id_task="one")
            assert (done["active"], done["queued"], done["completed"]) == (False, False, True)
            assert (await http.get("/internal/pending-tasks")).json() == {"size": 0, "tasks": []}

    asyncio.run(main())


def test_the_small_internal_routes(client: Client) -> None:
    async def main() -> None:
        async with client() as http:
            assert (await http.get("/internal/ping")).json() == {}
            hints = (await http.get("/internal/quicksettings-hint")).json()
            assert {"name", "label"} == set(hints[0])
            assert "samples_format" in {hint["name"] for hint in hints}
            inline, download = await http.get("/internal/sysinfo"), await http.get("/internal/sysinfo-download")
            assert "Config" in inline.json()
            assert download.headers["content-disposition"].startswith('attachment; filename="sysinfo-')
            assert (await http.get("/internal/profile-startup")).json() == {"total": 0.25, "records": {"routes": 0.25}}

    asyncio.run(main())


def test_a_jobs_pictures_are_had_as_bytes_and_are_gone_in_time(client: Client, engine: Engine) -> None:
    async def main() -> None:
        job = engine.submit(picture, kind="txt2img", meta={"prompt": "a red dot"})
        await job.wait()
        async with client() as http:
            document = (await http.get(f"/latentd/v1/jobs/{job.id}")).json()
            assert (document["state"], document["progress"], document["meta"]) == (
                "completed",
                1.0,
                {"prompt": "a red dot"},
            )
            (shown,) = document["images"]
            assert (shown["width"], shown["height"], shown["seed"]) == (8, 6, 5)
            reply = await http.get(shown["url"])
            assert reply.headers["content-type"] == "image/png"
            assert Image.open(io.BytesIO(reply.content)).info["parameters"] == "a red dot"
            jpeg = await http.get(shown["url"], params={"format": "jpeg"})
            assert jpeg.headers["content-type"] == "image/jpeg"
            assert jpeg.content[:2] == b"\xff\xd8"
            assert (await http.get(shown["url"], params={"format": "exe"})).status_code == 422
            assert (await http.get(f"/latentd/v1/jobs/{job.id}/images/1")).status_code == 404
            assert (await http.get(f"/latentd/v1/jobs/{job.id}/images/-1")).status_code == 404
            job.expire()
            assert (await http.get(shown["url"])).status_code == 410
            assert (await http.get(f"/latentd/v1/jobs/{job.id}")).json()["expired"] is True

    asyncio.run(main())


def test_jobs_are_listed_and_cancelled(client: Client, engine: Engine, sampling: Any) -> None:
    works = [sampling() for _ in range(3)]

    async def main() -> None:
        made = [engine.submit(work, kind="txt2img") for work in works]
        await asyncio.to_thread(works[0].reached)
        async with client() as http:
            listed = (await http.get("/latentd/v1/jobs")).json()
            assert listed["total"] == 3
            assert [(j["id"], j["state"], j["position"]) for j in listed["jobs"]] == [
                (made[0].id, "running", 0),
                (made[1].id, "queued", 1),
                (made[2].id, "queued", 2),
            ]
            for _ in range(2):
                reply = await http.post(f"/latentd/v1/jobs/{made[1].id}/cancel")
                assert (reply.status_code, reply.json()["state"]) == (200, "cancelled")
            assert (await http.get(f"/latentd/v1/jobs/{made[1].id}/images/0")).status_code == 409
            waiting = (await http.get("/latentd/v1/jobs", params={"state": "queued", "limit": 1})).json()
            assert [j["id"] for j in waiting["jobs"]] == [made[2].id]
            assert (await http.post("/latentd/v1/jobs/none/cancel")).status_code == 404
            assert (await http.get(f"/latentd/v1/jobs/{made[0].id}/preview")).status_code == 204
            assert (await http.get(f"/latentd/v1/jobs/{made[0].id}/images/0")).status_code == 409
        for work in works:
            work.finish()
        assert await made[2].wait() == [4]

    asyncio.run(main())


def test_events_tell_a_jobs_life_and_end_with_it(client: Client, engine: Engine, sampling: Any) -> None:
    work = sampling(steps=3)

    async def main() -> list[tuple[str, Any]]:
        job = engine.submit(work, kind="txt2img")
        await asyncio.to_thread(work.reached)
        # The in-process transport hands a reply over when it is whole: let the work go on once its start was heard.
        threading.Timer(0, lambda: (_until(lambda: job.watched), work.finish())).start()
        async with client() as http:
            reply = await http.get(f"/latentd/v1/jobs/{job.id}/events")
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert "no-store" in reply.headers["cache-control"]
        return [(event["event"], json.loads(event["data"])) for event in events_in(reply.text)]

    heard = asyncio.run(main())
    assert [heard[0][0], heard[-1][0]] == ["started", "completed"]
    assert {name for name, _ in heard[1:-1]} <= {"progress"}
    assert heard[-1][1]["state"] == "completed"
    assert len(engine.events) == 0


def events_in(text: str) -> list[dict[str, str]]:
    """The events of a stream by the names of their fields, which may come in any order."""
    return [dict(line.split(": ", 1) for line in frame.split("\n")) for frame in text.strip().split("\n\n")]


def _until(condition: Callable[[], bool]) -> None:
    gate = threading.Event()
    while not condition():
        gate.wait(0.002)


def test_events_of_an_ended_job_are_its_end(client: Client, engine: Engine) -> None:
    async def main() -> list[httpx.Response]:
        job = engine.submit(picture, kind="txt2img")
        await job.wait()
        async with client() as http:
            heard = (None, "", "completed")
            headers = [{} if last is None else {"Last-Event-ID": last} for last in heard]
            return [await http.get(f"/latentd/v1/jobs/{job.id}/events", headers=sent) for sent in headers]

    first, cut_off, again = asyncio.run(main())
    (event,) = events_in(first.text)
    assert (event["event"], event["id"], json.loads(event["data"])["state"]) == ("completed",) * 3
    assert cut_off.text == first.text
    assert (again.status_code, again.content) == (204, b"")


def test_a_silent_stream_is_kept_open(
    app: FastAPI, engine: Engine, sampling: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Comments come while nothing happens, so that proxies leave it open and a client that is gone is noticed."""
    monkeypatch.setattr("fastapi.routing._PING_INTERVAL", 0.01)
    work = sampling(steps=1)

    async def ended_by_a_comment(scope: Scope, receive: Receive, send: Send) -> None:
        async def pass_on(message: Message) -> None:
            if message.get("body", b"").startswith(b":"):
                work.finish()
            await send(message)

        await app(scope, receive, pass_on)

    async def main() -> str:
        job = engine.submit(work, kind="txt2img")
        await asyncio.to_thread(work.reached)
        transport = httpx.ASGITransport(ended_by_a_comment)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            return (await http.get(f"/latentd/v1/jobs/{job.id}/events")).text

    text = asyncio.run(main())
    assert text.startswith("event: started\n")
    assert events_in(text.strip().rpartition("\n\n")[2])[0]["event"] == "completed"


def test_events_of_all_jobs_begin_with_those_there_are_and_end_with_the_server(
    client: Client, engine: Engine, sampling: Any
) -> None:
    first, second = sampling(steps=1), sampling(steps=1)

    async def main() -> list[tuple[str, str]]:
        running = engine.submit(first, kind="txt2img")
        await asyncio.to_thread(first.reached)
        waiting = engine.submit(second, kind="txt2img")
        async with client() as http:
            stream = asyncio.ensure_future(http.get("/latentd/v1/events"))
            await asyncio.to_thread(_until, lambda: len(engine.events) == 1)
            first.finish()
            await asyncio.to_thread(second.reached)
            second.finish()
            await waiting.wait()
            await asyncio.to_thread(engine.close)
            reply = await asyncio.wait_for(stream, 20)
        assert "no-store" in reply.headers["cache-control"]
        names = {running.id: "first", waiting.id: "second"}
        heard = [(names[json.loads(event["data"])["id"]], event["event"]) for event in events_in(reply.text)]
        return [pair for pair in heard if pair[1] != "progress"]

    assert asyncio.run(main()) == [
        ("first", "started"),
        ("second", "queued"),
        ("first", "completed"),
        ("second", "started"),
        ("second", "completed"),
    ]
    assert len(engine.events) == 0


def test_who_misses_events_of_all_jobs_is_hung_up_on(client: Client, engine: Engine) -> None:
    async def main() -> httpx.Response:
        async with client() as http:
            stream = asyncio.ensure_future(http.get("/latentd/v1/events"))
            while not len(engine.events):
                await asyncio.sleep(0)
            for number in range(200):  # nobody reads meanwhile: the loop is kept
                engine.events.publish(Event(job_id=str(number), name="queued", data={"id": str(number)}))
            return await asyncio.wait_for(stream, 20)

    assert asyncio.run(main()).text.count("event:") < 64
    assert len(engine.events) == 0


def test_one_job_is_interrupted_and_the_others_go_on(client: Client, engine: Engine, sampling: Any) -> None:
    work, other = sampling(steps=4), sampling(steps=2)

    async def main() -> tuple[Any, Any]:
        job, later = engine.submit(work, kind="txt2img"), engine.submit(other, kind="txt2img")
        await asyncio.to_thread(work.go)
        async with client() as http:
            assert (await http.post("/latentd/v1/jobs/none/interrupt")).status_code == 404
            waiting = (await http.post(f"/latentd/v1/jobs/{later.id}/interrupt")).json()
            assert (waiting["state"], waiting["interrupted"]) == ("queued", False)
            stopped = (await http.post(f"/latentd/v1/jobs/{job.id}/interrupt")).json()
            assert (stopped["state"], stopped["interrupted"]) == ("running", True)
        work.finish()
        other.finish()
        return await job.wait(), await later.wait()

    assert asyncio.run(main()) == ([1], [2])


def test_one_stream_too_many_is_refused_as_a_reply(client: Client, engine: Engine) -> None:
    assert engine.events.limit == 256

    async def main() -> httpx.Response:
        job = engine.submit(picture, kind="txt2img")
        await job.wait()
        with ExitStack() as stack:
            for _ in range(256):
                stack.enter_context(engine.subscribe())
            async with client() as http:
                refused = await http.get(f"/latentd/v1/jobs/{job.id}/events")
        async with client() as http:
            assert (await http.get(f"/latentd/v1/jobs/{job.id}/events")).status_code == 200
        return refused

    reply = asyncio.run(main())
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "5")
    assert len(engine.events) == 0
