"""Data sets: prepared from what the user supplies or this repository holds, listed, shown, handed to a scenario."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from flows.workspace import CHECKOUT, Workspace, content_root
from redline.datasets.fields import shown
from redline.datasets.hub import fetch, pin_of
from redline.datasets.prepare import prepared_from, template_source
from redline.datasets.prepared import (
    TEMPLATE_SOURCE,
    PreparedSet,
    definition_digest,
    read_manifest,
    read_prepared,
    write_prepared,
)
from redline.datasets.templates import Templates, read_templates
from redline.datasets.tokenization import PromptTokenizer, read_tokenizer
from redline.errors import ContentError, UsageError
from redline.model import AudioPrompt, ChatPrompt, Dataset, Item, TextPrompt, TokenPrompt

FROM_HUB = "hub"
DOWNLOADS = "downloads"
TOKENS_SHOWN = 12


def prepared_of(workspace: Workspace, name: str) -> PreparedSet:
    """The prepared data set; one that this repository holds is prepared anew if anything about it changed.

    Raises ContentError if there is no such set, or the user has to prepare it: the error names the command.
    """
    definition = _definition(workspace, name)
    if definition.bundled:
        prepared, _ = _prepare(workspace, definition, _of_checkout(workspace, definition.bundled), None)
        return prepared
    prepared = read_prepared(workspace.datasets_dir_of(definition), name, definition)
    wording = template_source(_templates(workspace, definition))
    if {key: value for key, value in prepared.source_files.items() if key.startswith(TEMPLATE_SOURCE)} != wording:
        raise ContentError(
            f"data set {name} was prepared with another wording of its prompt",
            expected=f"datasets/prompts.json as it is now: {wording}",
            found="another digest",
            next_step=f"redline datasets prepare {name} --from PATH",
        )
    return prepared


def prepare(state_dir: Path, name: str, source: str, tokenizer: Path | None) -> Iterator[str]:
    """Prepare a data set from a file, a folder or `hub`, and say what became of it, as lines.

    Raises ContentError if what is given is not the set, UsageError for a path that is none, InfrastructureError if the
    hub cannot be reached.
    """
    workspace = Workspace(content_root(), state_dir)
    definition = _definition(workspace, name)
    if source == FROM_HUB:
        place = fetch(definition, workspace.datasets_dir_of(definition) / DOWNLOADS / name)
    else:
        place = Path(source)
        if not place.exists() and definition.bundled == source:
            place = _of_checkout(workspace, source)
    prepared, became = _prepare(workspace, definition, place, tokenizer)
    yield f"{name}: {len(prepared.items)} items, digest {prepared.digest}: {became}"
    yield f"  in {workspace.datasets_dir_of(definition) / name}"
    yield f"  licence: {definition.licence}"


def listing(state_dir: Path) -> Iterator[str]:
    """Every data set that is defined: name, items, whether it is prepared, licence; as lines of a table."""
    workspace = Workspace(content_root(), state_dir)
    paths = sorted((workspace.root / "datasets").glob("*.toml"))
    definitions = [workspace.dataset(path.stem) for path in paths]
    rows = [("name", "items", "prepared", "licence")]
    rows += [(each.name, str(each.item_count), _state(workspace, each), each.licence) for each in definitions]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for name, items, state, licence in rows:
        yield f"{name:<{widths[0]}}  {items:>{widths[1]}}  {state:<{widths[2]}}  {_shortened(licence, 60)}"


def show(state_dir: Path, name: str) -> Iterator[str]:
    """What a data set is, where it comes from, whether it may be used and is prepared, and its first item; as lines."""
    workspace = Workspace(content_root(), state_dir)
    definition = _definition(workspace, name)
    yield f"{name}: {definition.description}"
    yield f"  items:     {definition.item_count}, form {definition.form}"
    yield f"  licence:   {definition.licence}"
    yield f"  source:    {definition.source}"
    yield f"  scored by: {definition.scorer or 'nothing: it is for speed'}"
    if definition.prompt:
        bound = f", at most {definition.prompt_tokens_max} tokens" if definition.prompt_tokens_max else ""
        yield f"  prompt:    template {definition.prompt} of datasets/prompts.json{bound}"
    for file_name, sha256 in sorted(definition.files.items()):
        yield f"  known:     {file_name}, SHA-256 {sha256}"
    state = _state(workspace, definition)
    yield f"  prepared:  {state}"
    if state != "yes":
        yield f"  next step: {_how(definition)}"
        return
    prepared = read_prepared(workspace.datasets_dir_of(definition), name, definition)
    yield f"  digest:    {prepared.digest}"
    for made_of, sha256 in _few(sorted(prepared.source_files.items())):
        yield f"  made of:   {made_of}, {sha256}"
    if prepared.tokenizer_sha256:
        yield f"  tokenizer: SHA-256 {prepared.tokenizer_sha256}"
    yield from _first_item(prepared.items[0])


def _first_item(item: Item) -> Iterator[str]:
    yield f"  first item {shown(item.key)}"
    match item.prompt:
        case TokenPrompt(token_ids=token_ids):
            more = " ..." if len(token_ids) > TOKENS_SHOWN else ""
            yield f"    asks:    {len(token_ids)} tokens: {' '.join(map(str, token_ids[:TOKENS_SHOWN]))}{more}"
        case TextPrompt(text=text):
            yield f"    asks:    {shown(text)}"
        case ChatPrompt(turns=turns, image_urls=image_urls):
            for role, text in turns:
                yield f"    {role + ':':<8} {shown(text)}"
            for url in image_urls:
                yield f"    picture: {url.partition(',')[0]}, {len(url)} characters"
        case AudioPrompt() as audio:
            yield f"    asks:    {audio.file_name}, {audio.media_type}, {len(audio.content)} bytes, {audio.language}"
    yield f"    answer:  {shown(item.reference)}"


def _few(sources: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    yield from sources[:4]
    if len(sources) > 4:
        yield f"and {len(sources) - 4} files more", "all of them in the manifest"


def _prepare(
    workspace: Workspace, definition: Dataset, source: Path, tokenizer: Path | None
) -> tuple[PreparedSet, str]:
    """(the set as it is now kept, what became of what was kept before)."""
    prepared = prepared_from(
        definition, source, _templates(workspace, definition), _tokenizer(workspace, definition, tokenizer)
    )
    before = _digest_before(workspace, definition)
    write_prepared(workspace.datasets_dir_of(definition), prepared)
    if before is None:
        return prepared, "prepared"
    return prepared, "as before" if before == prepared.digest else f"replaced, digest before {before}"


def _digest_before(workspace: Workspace, definition: Dataset) -> str | None:
    try:
        manifest = read_manifest(workspace.datasets_dir_of(definition), definition.name)
    except ContentError:  # damaged: it is about to be replaced
        return "unknown (it was damaged)"
    return manifest.digest if manifest else None


def _state(workspace: Workspace, definition: Dataset) -> str:
    try:
        manifest = read_manifest(workspace.datasets_dir_of(definition), definition.name)
    except ContentError:
        return "damaged"
    if manifest is None:
        return "on use" if definition.bundled else "no"
    return "yes" if manifest.definition_digest == definition_digest(definition) else "from another definition"


def _how(definition: Dataset) -> str:
    if definition.bundled:
        return "nothing: it is prepared when a scenario first uses it"
    places = f"PATH|{FROM_HUB}" if pin_of(definition) else "PATH"
    bounded = definition.prompt_tokens_max and definition.form == "cnn-dailymail" and not definition.tokenizer
    return f"redline datasets prepare {definition.name} --from {places}" + (" --tokenizer PATH" if bounded else "")


def _definition(workspace: Workspace, name: str) -> Dataset:
    if Path(name).name != name:
        raise UsageError(
            f"{name!r} is no name of a data set",
            expected="a name from the list",
            found=repr(name)[:100],
            next_step="list them: redline datasets",
        )
    return workspace.dataset(name)


def _templates(workspace: Workspace, definition: Dataset) -> Templates:
    return read_templates(_of_checkout(workspace, "datasets/prompts.json"), definition.prompt)


def _tokenizer(workspace: Workspace, definition: Dataset, chosen: Path | None) -> PromptTokenizer | None:
    if chosen is not None:
        return read_tokenizer(chosen)
    return read_tokenizer(_of_checkout(workspace, definition.tokenizer)) if definition.tokenizer else None


def _of_checkout(workspace: Workspace, place: str) -> Path:
    """A path of the team's content if it has it, else of Redline's own."""
    return next((root / place for root in (workspace.root, CHECKOUT) if (root / place).exists()), CHECKOUT / place)


def _shortened(text: str, characters_max: int) -> str:
    return text if len(text) <= characters_max else text[: characters_max - 3].rstrip() + "..."
