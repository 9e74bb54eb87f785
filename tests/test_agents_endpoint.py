import json
import socket
import threading
import time

import pytest

from devnull.agents.agent import Message, Request
from devnull.agents.chat_format import build_messages
from devnull.agents.endpoint import Endpoint
from devnull.agents.protocol import InvalidAction, parse_action
from devnull.sandbox.errors import InputError
from devnull.sandbox.task import Instance
from devnull.sandbox.transcript import Turn
from tests.chat_server import completion, serving
from tests.fakes import APP, turn


def echo(body):
    return 200, completion(f"{body['messages'][-1]['content']} {body['seed']}")


def refusal(status, message, code=None):
    return status, {"error": {"message": message, "type": "error", "code": code}}


@pytest.fixture
def server():
    with serving(echo) as made:
        yield made


def requests(n):
    instance = Instance(task=APP, seed=0)
    return [Request((Message(role="user", content=f"ask {k}"),), instance, 100 + k, 0) for k in range(n)]


def agent(server, **more):
    return Endpoint("m", server.url, api_key="k", **{"retries": 0, **more})


def test_replies_come_in_order_with_seed_and_tokens(server):
    replies = agent(server, temperature=0.5, max_new_tokens=9).respond(requests(10))
    assert [r.text for r in replies] == [f"ask {k} {100 + k}" for k in range(10)]
    assert {(r.prompt_tokens, r.completion_tokens) for r in replies} == {(7, 3)}
    assert {(b["model"], b["temperature"], b["max_tokens"]) for b in server.seen} == {("m", 0.5, 9)}


def test_a_batch_is_asked_at_once(server):
    together = threading.Barrier(4)
    server.answer = lambda body: (together.wait(60), echo(body))[1]
    assert len(agent(server).respond(requests(4))) == 4


def test_one_failure_is_one_replys(server):
    server.answer = lambda b: refusal(500, "oom") if b["seed"] == 101 else echo(b)
    replies = agent(server).respond(requests(3))
    assert [r.error is None for r in replies] == [True, False, True]
    assert server.url in str(replies[1].error) and "oom" in str(replies[1].error)


def test_a_passing_failure_is_asked_again(server):
    failures = [refusal(503, "busy")]
    server.answer = lambda b: failures.pop() if failures else echo(b)
    (reply,) = Endpoint("m", server.url, api_key="k", retries=1).respond(requests(1))
    assert reply.error is None and len(server.seen) == 2


def test_a_rate_limit_says_how_long_to_wait(server):
    limits = [(429, refusal(429, "slow down")[1], {"Retry-After": "1"})]
    server.answer = lambda b: limits.pop() if limits else echo(b)
    begin = time.monotonic()
    (reply,) = agent(server, retries=1).respond(requests(1))
    assert reply.error is None and len(server.seen) == 2
    assert time.monotonic() - begin >= 1  # the client's own first pause is at most half a second


def test_a_reasoning_model_is_given_room_by_default(server):
    Endpoint("m", server.url, api_key="k").respond(requests(1))
    assert server.seen[0]["max_tokens"] == 4096 and "tools" not in server.seen[0]


@pytest.mark.parametrize(
    "said",
    [
        {"content": "Done: well.", "reasoning_content": "I looked."},
        {"content": "Done: well.", "reasoning": "I looked."},
        {"content": "<think>I looked.</think>\n\nDone: well."},
    ],
)
def test_reasoning_is_split_off_wherever_the_server_puts_it(server, said):
    server.answer = lambda b: (200, completion(None, message={"role": "assistant", **said}))
    (reply,) = agent(server).respond(requests(1))
    assert (reply.text, reply.reasoning) == ("Done: well.", "I looked.")


@pytest.mark.parametrize(("named", "dollars"), [({}, (7 * 2 + 3 * 10) / 1e6), ({"cost": 0.25}, 0.25)])
def test_what_a_reply_costs_is_counted(server, named, dollars):
    def answer(body):
        status, value = echo(body)
        return status, value | {"usage": value["usage"] | named}

    server.answer = answer
    (reply,) = agent(server, price=(2.0, 10.0)).respond(requests(1))
    assert reply.dollars == pytest.approx(dollars)


def call(arguments, name="bash"):
    return {"id": "1", "type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize(
    ("calls", "text"),
    [
        ([call('{"command": "ls"}')], "```bash\nls\n```"),
        ([call('{"command": "ls"}'), call('{"command": "id"}')], "```bash\nls\n```\n```bash\nid\n```"),
        ([call("{")], "(a call of bash without a command)"),
        ([call("{}", "python")], "(a call of 'python', which is no tool here)"),
        (None, "Let me look."),
    ],
)
def test_tool_calls_become_what_a_transcript_holds(server, calls, text):
    message = {"role": "assistant", "content": "Let me look.", "tool_calls": calls}
    server.answer = lambda b: (200, completion(None, message=message))
    (reply,) = agent(server, protocol="tools").respond(requests(1))
    assert reply.text == text and reply.reasoning == ("Let me look." if calls else "")
    assert isinstance(parse_action(text), InvalidAction) == (calls is None or calls[0] != calls[-1] or "(" in text)


def test_a_tool_calling_model_reads_its_past_as_calls(server):
    turns = [turn("ls", "a\n"), Turn(text="Hm.", valid=False), Turn(text="Done: x", valid=True)]
    messages = build_messages("Install it.", turns)
    asked = Request(messages, Instance(task=APP, seed=0), 1, 3)
    agent(server, protocol="tools").respond([asked])
    system, user, called, shown, hm, refused, report = server.seen[0]["messages"]
    assert "```" not in str(server.seen[0]["messages"]) and "tool `bash`" in system["content"]
    assert user["content"] == "Install it."
    assert json.loads(called["tool_calls"][0]["function"]["arguments"]) == {"command": "ls"}
    assert shown == {"role": "tool", "tool_call_id": called["tool_calls"][0]["id"], "content": "a"}
    assert hm == {"role": "assistant", "content": "Hm."}
    assert refused == {"role": "user", "content": "(nothing was run: no call of bash)"}
    assert report["content"] == "Done: x"
    assert [tool["function"]["name"] for tool in server.seen[0]["tools"]] == ["bash"]


def test_a_server_that_is_not_there_is_the_worlds_failure():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    (reply,) = Endpoint("m", f"http://127.0.0.1:{port}/v1", api_key="k", retries=0).respond(requests(1))
    assert "is the server running?" in str(reply.error)


@pytest.mark.parametrize(
    ("status", "message", "says"),
    [(401, "bad key", "set OPENAI_API_KEY"), (404, "no model", "it offers llama"), (400, "bad seed", "bad seed")],
)
def test_what_the_user_must_mend_is_said(server, status, message, says):
    server.answer = lambda b: refusal(status, message)
    with pytest.raises(InputError, match=says):
        agent(server).respond(requests(2))


def test_a_full_context_ends_the_episode(server):
    server.answer = lambda b: refusal(400, "maximum context length is 4096 tokens", "context_length_exceeded")
    (reply,) = agent(server).respond(requests(1))
    assert reply.ended and reply.error is None


def test_the_other_name_of_the_token_limit_is_learnt(server):
    def picky(body):
        if "max_tokens" in body:
            return refusal(400, "Unsupported parameter: use 'max_completion_tokens' instead")
        return echo(body)

    server.answer = picky
    assert all(r.text for r in agent(server).respond(requests(8)))
    assert len(agent(server).respond(requests(1))) == 1


def test_a_reply_without_content_is_empty_text(server):
    server.answer = lambda b: (200, completion(None))
    assert agent(server).respond(requests(1))[0].text == ""


def test_a_hosted_endpoint_wants_a_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(InputError, match="OPENAI_API_KEY"):
        Endpoint("m")
