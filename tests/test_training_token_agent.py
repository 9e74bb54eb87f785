"""The policy as an agent: its tokens stay the ones that it drew."""

import pytest

from devnull.agents.agent import Message, Request
from devnull.training.models import LoadedPolicy, load_policy
from devnull.training.tiny import make_tiny_model
from devnull.training.token_agent import TokenAgent
from tests.fakes import instances
from tests.training_cases import TASK, episodes, message_texts


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> LoadedPolicy:
    return load_policy(make_tiny_model(tmp_path_factory.mktemp("tokens") / "tiny", message_texts(episodes())))


def test_the_agents_words_are_never_tokenised_again(policy: LoadedPolicy) -> None:
    """Two tokens whose text would be read as other tokens stay the two that were drawn."""
    tokenizer = policy.tokenizer
    pieces = [tokenizer.convert_tokens_to_ids(token) for token in ("d", "r", "i", "v", "e", "r")]
    assert tokenizer("driver", add_special_tokens=False)["input_ids"] != pieces
    agent = TokenAgent(lambda prompts, _: ([[*pieces, tokenizer.eos_token_id] for _ in prompts], None), tokenizer, 2048)
    chat: list[Message] = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    first = Request(tuple(chat), instances(1, TASK)[0], 0, 0)
    reply = agent.respond([first])[0].text
    chat += [{"role": "assistant", "content": reply}, {"role": "user", "content": "shown"}]
    agent.respond([Request(tuple(chat), instances(1, TASK)[0], 0, 1)])
    history = agent.finished_history((0, 0))
    drawn = [token for token, mine in zip(history.completion, history.mask, strict=True) if mine]
    assert drawn == [*pieces, tokenizer.eos_token_id] * 2
    whole = tokenizer.decode(history.prompt + history.completion)
    chat.append({"role": "assistant", "content": reply})
    assert whole + "\n" == tokenizer.apply_chat_template(chat, tokenize=False)


def test_the_agent_is_prompted_with_the_tokens_it_drew(policy: LoadedPolicy) -> None:
    tokenizer = policy.tokenizer
    prompts: list[list[int]] = []
    drawn = [*(tokenizer.convert_tokens_to_ids(token) for token in "driver"), tokenizer.eos_token_id]

    def generate(batch: list[list[int]], seeds: list[int]) -> tuple[list[list[int]], None]:
        prompts.extend(batch)
        return [drawn], None

    agent = TokenAgent(generate, tokenizer, 2048)
    chat: list[Message] = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    reply = agent.respond([Request(tuple(chat), instances(1, TASK)[0], 0, 0)])[0].text
    chat += [{"role": "assistant", "content": reply}, {"role": "user", "content": "shown"}]
    agent.respond([Request(tuple(chat), instances(1, TASK)[0], 0, 1)])
    first, second = prompts
    assert second[: len(first) + len(drawn)] == first + drawn


def test_a_message_cut_at_its_limit_is_closed_by_the_terminal(policy: LoadedPolicy) -> None:
    tokenizer = policy.tokenizer
    agent = TokenAgent(lambda prompts, _: ([[50] for _ in prompts], [[-0.5] for _ in prompts]), tokenizer, 2048)
    chat: tuple[Message, ...] = ({"role": "system", "content": "s"}, {"role": "user", "content": "u"})
    reply = agent.respond([Request(chat, instances(1, TASK)[0], 0, 0)])[0].text
    longer: tuple[Message, ...] = (*chat, {"role": "assistant", "content": reply}, {"role": "user", "content": "v"})
    agent.respond([Request(longer, instances(1, TASK)[0], 0, 1)])
    history = agent.finished_history((0, 0))
    assert history.completion[1] == tokenizer.eos_token_id
    assert history.mask[:2] == [1, 0]
    # What vLLM says of its draws stays with them: TRL corrects by it, and would stumble over rows of another length.
    assert history.logprobs == [-0.5 * mine for mine in history.mask]
    assert (history.completion[-1], history.mask[-1]) == (50, 1)


def test_an_episode_that_fills_the_context_ends(policy: LoadedPolicy) -> None:
    agent = TokenAgent(lambda prompts, _: ([[50] for _ in prompts], [[-0.5] for _ in prompts]), policy.tokenizer, 5)
    chat: tuple[Message, ...] = ({"role": "system", "content": "s" * 40}, {"role": "user", "content": "u"})
    assert agent.respond([Request(chat, instances(1, TASK)[0], 0, 0)])[0].ended
