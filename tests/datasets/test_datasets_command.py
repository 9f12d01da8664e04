"""`redline datasets`: lists, shows and prepares, from files or a hub; bundled sets are prepared when they are used."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from http.server import BaseHTTPRequestHandler

import pytest

from flows.datasets import prepared_of
from flows.workspace import Workspace
from models.stand_ins import items as learned_items
from redline import cli, content
from redline.datasets import hub
from redline.datasets.item_table import digest_of
from redline.datasets.tokenization import read_tokenizer
from redline.errors import ContentError, InfrastructureError
from tests.datasets.made_files import ARTICLES, ROOT, definition, json_lines, parquet, product, tokenizer_file
from tests.fakes.local_server import LocalServer

DEFINITIONS = {path.stem: content.dataset(path) for path in sorted((ROOT / "datasets").glob("*.toml"))}
BUNDLED = sorted(name for name, each in DEFINITIONS.items() if each.bundled)
REVISION = "d" * 40
NEWS = f"""
description = "news of this test"
form = "cnn-dailymail"
scorer = "rouge"
prompt = "gptj"
prompt_tokens_max = 100
item_count = {len(ARTICLES)}
licence = "ours: use it"
source = "this test"
"""


@pytest.fixture
def team(tmp_path, monkeypatch):
    """A team's own content with one data set, `news`, and its articles; its workspace."""
    root, state = tmp_path / "content", tmp_path / "state"
    (root / "scenarios").mkdir(parents=True)
    (root / "datasets").mkdir()
    (root / "datasets" / "news.toml").write_text(NEWS)
    json_lines(tmp_path / "news.jsonl", ARTICLES)
    tokenizer_file(tmp_path, begin_token=False)
    monkeypatch.setenv("REDLINE_CONTENT", str(root))
    monkeypatch.setenv("REDLINE_STATE", str(state))
    return Workspace(root, state)


def told(capsys, *arguments):
    """(exit code, what is printed, what is complained of) of one command."""
    code = cli.main(["datasets", *map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_a_set_is_prepared_once_and_replaced_when_it_changed(team, tmp_path, capsys):
    """Prepared, then as before, then replaced with both digests said; the flow reads what the command kept."""
    command = ("prepare", "news", "--from", tmp_path / "news.jsonl", "--tokenizer", tmp_path / "tokenizer.json")
    code, out, _ = told(capsys, *command)
    first = prepared_of(team, "news")
    assert code == 0
    assert f"{len(ARTICLES)} items, digest {first.digest}: prepared" in out
    assert "ours: use it" in out
    assert "as before" in told(capsys, *command)[1]
    changed = [each | {"highlights": "another"} for each in ARTICLES]
    json_lines(tmp_path / "news.jsonl", changed)
    out = told(capsys, *command)[1]
    assert f"replaced, digest before {first.digest}" in out
    assert {item.reference for item in prepared_of(team, "news").items} == {"another"}


def test_list_and_show_say_what_is_there(team, tmp_path, capsys):
    """Before: the command to run. After: digest, sources and the first item, shortened. Damaged: that it is."""
    assert "news" in told(capsys)[1]
    assert "  no  " in told(capsys, "list")[1]
    out = told(capsys, "show", "news")[1]
    assert "redline datasets prepare news --from PATH --tokenizer PATH" in out
    told(capsys, "prepare", "news", "--from", tmp_path / "news.jsonl", "--tokenizer", tmp_path)
    out = told(capsys, "show", "news")[1]
    assert prepared_of(team, "news").digest in out
    assert "100 tokens: " in out
    assert hashlib.sha256((tmp_path / "news.jsonl").read_bytes()).hexdigest() in out
    assert max(map(len, out.splitlines())) < 200
    (team.root / "datasets" / "news.toml").write_text(NEWS.replace("= 100", "= 90"))
    assert "from another definition" in told(capsys, "list")[1]
    (team.datasets_dir / "news" / "manifest.json").write_text("{")
    assert "damaged" in told(capsys, "--state-dir", team.state_dir)[1]


def test_what_cannot_be_prepared_leaves_what_was(team, tmp_path, capsys):
    """Exit code 2 with what was expected, and the set as it was."""
    source = tmp_path / "news.jsonl"
    told(capsys, "prepare", "news", "--from", source, "--tokenizer", tmp_path)
    before = prepared_of(team, "news")
    json_lines(source, ARTICLES[:-1])
    for arguments, said in (
        (("news", "--from", source, "--tokenizer", tmp_path), f"expected: {len(ARTICLES)} items"),
        (("news", "--from", source), "--tokenizer PATH"),
        (("news", "--from", tmp_path / "nowhere"), "no such file"),
        (("news", "--from", "hub"), "not fetched from a hub"),
        (("news", "--from", source, "--tokenizer", source), "not a tokenizer"),
        (("nwes", "--from", source), "'news'"),
        (("../scenarios/x", "--from", source), "no name of a data set"),
    ):
        code, out, err = told(capsys, "prepare", *arguments)
        assert (code, out) == (2, "")
        assert said in err
        assert "next step" in err
    assert prepared_of(team, "news") == before


def test_a_set_whose_prompt_was_reworded_must_be_prepared_again(team, tmp_path, capsys):
    """Its token ids are of the old wording."""
    told(capsys, "prepare", "news", "--from", tmp_path / "news.jsonl", "--tokenizer", tmp_path)
    prompts = json.loads((ROOT / "datasets" / "prompts.json").read_text())
    (team.root / "datasets" / "prompts.json").write_text(json.dumps(prompts | {"gptj": "Shorten {article}"}))
    with pytest.raises(ContentError, match="another wording") as caught:
        prepared_of(team, "news")
    assert "redline datasets prepare news" in caught.value.next_step


def test_scenarios_are_told_the_command_for_a_set_that_is_missing(team):
    """Only what this repository holds is prepared without being asked."""
    with pytest.raises(ContentError) as caught:
        prepared_of(team, "news")
    assert "redline datasets prepare news --from PATH" in caught.value.next_step


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_sets_are_ready_without_a_command(name, tmp_path):
    """Each stand-in's set is whole, told apart and equal on every machine that has this checkout."""
    workspace = Workspace(ROOT, tmp_path)
    prepared = prepared_of(workspace, name)
    defined = DEFINITIONS[name]
    assert len(prepared.items) == defined.item_count
    assert all(item.reference for item in prepared.items)
    assert prepared.digest == digest_of(prepared.items)
    assert prepared_of(workspace, name) == prepared
    assert bool(prepared.tokenizer_sha256) == bool(defined.tokenizer)


def test_stand_ins_are_asked_what_they_have_learned(tmp_path):
    """The prompts and references are those that the maker of the stand-in models trains them on, to the last token."""
    workspace = Workspace(ROOT, tmp_path)
    for name in ("gptj", "llama2", "gpt-oss"):
        tokens = read_tokenizer(ROOT / "models" / f"stand-in-{name}")
        learned = {tokens.encode(each.prompt) for each in learned_items.text_items(name)}
        asked = {item.prompt.token_ids for item in prepared_of(workspace, f"{name}-stand-in").items}
        assert asked <= learned
    chats = [((("system", each.system), ("user", each.user)), each.answer) for each in learned_items.picture_items()]
    items = prepared_of(workspace, "qwen3-vl-stand-in").items
    assert [(item.prompt.turns, item.reference) for item in items] == chats
    spoken = [(each.audio.read_bytes(), each.answer) for each in learned_items.speech_items()]
    items = prepared_of(workspace, "whisper-stand-in").items
    assert [(item.prompt.content, item.reference) for item in items] == spoken


def test_a_bundled_set_follows_its_files(team):
    """An edited file, or a changed definition, is prepared anew when it is next used; nobody has to be told."""
    shutil.copytree(ROOT / "datasets" / "stand-in", team.root / "datasets" / "stand-in")
    shutil.copy(ROOT / "datasets" / "gptj-stand-in.toml", team.root / "datasets")
    before = prepared_of(team, "gptj-stand-in")
    path = team.root / "datasets" / "stand-in" / "articles.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    json_lines(path, [row | {"highlights": "edited"} for row in rows])
    after = prepared_of(team, "gptj-stand-in")
    assert after.items[0].reference == "edited"
    assert [item.prompt for item in after.items] == [item.prompt for item in before.items]
    definition_file = team.root / "datasets" / "gptj-stand-in.toml"
    definition_file.write_text(definition_file.read_text().replace("1919", "20"))
    assert {len(item.prompt.token_ids) for item in prepared_of(team, "gptj-stand-in").items} == {20}


def test_definitions_state_mlperf_s_counts_and_what_may_be_done():
    """Typed again from the published tables; every set says its licence, and only one may be fetched."""
    counts = {
        "cnn-dailymail-gptj": (13368, "cnn-dailymail", "rouge", 1919),
        "cnn-dailymail-llama3": (13368, "cnn-dailymail", "rouge", 0),
        "open-orca-llama2": (24576, "open-orca", "rouge", 1024),
        "librispeech-whisper": (1633, "librispeech", "word-errors", 0),
        "shopify-qwen3-vl": (48289, "shopify", "hierarchical-f1", 0),
        "gpt-oss-perf": (6396, "gpt-oss", "", 15330),
        "gpt-oss-accuracy": (4395, "gpt-oss", "final-answer", 0),
    }
    found = {
        name: (each.item_count, each.form, each.scorer, each.prompt_tokens_max)
        for name, each in DEFINITIONS.items()
        if not each.bundled
    }
    assert found == counts
    pins = {name: pin for name, each in DEFINITIONS.items() if (pin := hub.pin_of(each))}
    assert list(pins) == ["shopify-qwen3-vl"]
    assert pins["shopify-qwen3-vl"].revision == "d5c517c509f5aca99053897ef1de797d6d7e5aa5"


# --- the hub --------------------------------------------------------------------------------------------------------


class HubHandler(BaseHTTPRequestHandler):
    """As much of the hub as a download needs: a revision's files with their SHA-256, and the files."""

    server: SmallHub

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        files, told_sha256 = self.server.files, self.server.told_sha256
        if self.path.startswith("/api/datasets/team/catalogue/revision/"):
            siblings = [
                {
                    "rfilename": name,
                    "size": len(files[name]),
                    "lfs": {"sha256": told_sha256[name], "size": 1, "pointerSize": 1},
                }
                for name in files
            ]
            answer = {"id": "team/catalogue", "sha": self.server.revision, "siblings": siblings}
            return self.answer(json.dumps(answer).encode(), "application/json", "list")
        name = self.path.partition(f"/resolve/{REVISION}/")[2]
        if name not in files:
            return self.send_error(404)
        self.server.fetched.append((self.command, name))
        return self.answer(files[name], "application/octet-stream", told_sha256[name])

    def answer(self, body, media_type, tag):
        self.send_response(200)
        for header, value in (
            ("Content-Type", media_type),
            ("Content-Length", str(len(body))),
            ("ETag", f'"{tag}"'),
            ("X-Repo-Commit", REVISION),
        ):
            self.send_header(header, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *arguments):
        pass


class SmallHub(LocalServer):
    """A hub on this machine: its files, what it says of them, and what was fetched."""

    def __init__(self, files):
        super().__init__(HubHandler)
        self.files = files
        self.told_sha256 = {name: hashlib.sha256(body).hexdigest() for name, body in files.items()}
        self.revision = REVISION
        self.fetched: list[tuple[str, str]] = []


@pytest.fixture
def small_hub(tmp_path):
    """A hub on this machine with one product catalogue in two splits; it notes what is fetched."""
    splits = {"train": [product(0), product(1)], "test": [product(2)]}
    files = {
        f"data/{split}-00000-of-00001.parquet": parquet(tmp_path / f"{split}.parquet", rows).read_bytes()
        for split, rows in splits.items()
    }
    with SmallHub(files) as server:
        yield server


def catalogue(**changed):
    """A definition that may be fetched."""
    source = f"https://huggingface.co/datasets/team/catalogue/tree/{REVISION}, as published"
    return replace(definition("shopify", 3, prompt="qwen3-vl", source=source), **changed)


def test_the_hub_s_files_are_fetched_once_at_their_revision(small_hub, tmp_path):
    """Both splits, checked by SHA-256, ready to be read; a second time nothing is fetched."""
    from tests.datasets.made_files import prepare

    folder = hub.fetch(catalogue(), tmp_path / "fetched", small_hub.url)
    made = prepare(catalogue(), folder)
    assert ["Mug 0" in item.prompt.turns[1][1] for item in made.items] == [True, False, False]
    small_hub.fetched.clear()
    hub.fetch(catalogue(), tmp_path / "fetched", small_hub.url)
    assert small_hub.fetched == []


def test_another_file_than_the_pinned_one_is_refused(small_hub, tmp_path):
    """Other bytes than the hub states, or than the definition knows: not kept."""
    name = "data/test-00000-of-00001.parquet"
    known = catalogue(files={"test-00000-of-00001.parquet": "0" * 64})
    with pytest.raises(ContentError, match="not the file"):
        hub.fetch(known, tmp_path / "known", small_hub.url)
    small_hub.told_sha256[name] = "1" * 64
    with pytest.raises(ContentError, match="not the file") as caught:
        hub.fetch(catalogue(), tmp_path / "changed", small_hub.url)
    assert "1" * 64 in caught.value.expected
    assert not (tmp_path / "changed" / name).exists()


def test_another_revision_or_an_empty_one_is_refused(small_hub, tmp_path):
    """The hub must answer with what was asked for."""
    small_hub.revision = "e" * 40
    with pytest.raises(InfrastructureError, match="could not be fetched"):
        hub.fetch(catalogue(), tmp_path / "a", small_hub.url)
    small_hub.revision = REVISION
    small_hub.files = {}
    with pytest.raises(InfrastructureError, match="could not be fetched"):
        hub.fetch(catalogue(), tmp_path / "b", small_hub.url)


def test_without_a_network_the_message_says_what_to_do(small_hub, tmp_path):
    """Nobody answers at that address."""
    where = small_hub.url
    small_hub.close()
    with pytest.raises(InfrastructureError) as caught:
        hub.fetch(catalogue(), tmp_path, where)
    assert "--from" in caught.value.next_step
    assert "team/catalogue" in caught.value.expected
