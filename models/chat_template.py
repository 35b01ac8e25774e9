"""Messages become one prompt text through the model's own chat template. The only place where templates are rendered.

A template comes with the model and is a program written by a stranger: it runs in a sandbox, sees no more than its
messages, and stops at an output limit. Time and memory are not limited here but in `rendering.py`, which runs this in
a process that can be killed. Requests never bring templates of their own.
"""

import functools
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.meta
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox
import jinja2.utils
from jinja2.exceptions import SecurityError

from models.conversation import OUTPUT_CHARACTERS_MAX, Conversation, TemplateError
from models.described_tools import describe_tools
from models.folder import ModelFolder
from models.refusal import ModelRefused
from models.tokenizer_files import TEMPLATE_BYTES_MAX, read_conversation_files

MESSAGE_CHARACTERS_MAX = 500
SYSTEM_ROLES = ("system", "developer")

_PROBE = "probe of a chat template"


class ChatTemplate:
    """A compiled template; raises TemplateError when the source does not compile."""

    def __init__(self, source: str, special_tokens: dict[str, str], system: str | None = None) -> None:
        """`system`: what a conversation begins with that has no system message of its own."""
        if len(source.encode("utf-8", "surrogatepass")) > TEMPLATE_BYTES_MAX:
            raise TemplateError(f"the chat template is larger than {TEMPLATE_BYTES_MAX} bytes")
        self._special_tokens = special_tokens
        self._system = system
        self._knows_tools = "tool" in source
        self._may_want_parts = "image" in source
        try:
            environment = _environment()
            self._template = environment.from_string(source)
            self._variables = jinja2.meta.find_undeclared_variables(environment.parse(source))
        except Exception as error:  # whatever a compiler can be driven to: nesting, memory, Python's own limits
            raise _template_error(error) from error

    def render(self, conversation: Conversation, *, add_generation_prompt: bool = True) -> str:
        """The prompt for this conversation; raises TemplateError with the template's own words where it has some."""
        messages, tools = conversation.messages, conversation.tools
        if self._system and not any(message.get("role") in SYSTEM_ROLES for message in messages):
            messages = [{"role": "system", "content": self._system}, *messages]
        # A null is left out: templates ask whether a key is there, and would print `None` for one that is.
        messages = [{key: value for key, value in message.items() if value is not None} for message in messages]
        if not self._knows_tools:
            messages, tools = describe_tools(messages, tools), []
        settings = {name: value for name, value in conversation.settings.items() if name in self._variables}
        return self._write(self._shaped(messages), tools, settings, add_generation_prompt)

    def _write(
        self,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]],
        settings: dict[str, Any],
        add_generation_prompt: bool,
    ) -> str:
        variables = {
            **settings,
            **self._special_tokens,
            "messages": messages,
            "tools": tools or None,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
        }
        try:
            return "".join(_limited(self._template.generate(variables)))
        except TemplateError:
            raise
        except Exception as error:  # a template is a program and may raise anything that Python can
            raise _template_error(error) from error

    def _shaped(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Contents as this template wants them: texts, or lists of parts. Images are always parts."""
        shaped = []
        for message in messages:
            content = message.get("content")
            if isinstance(content, str) and self._wants_parts:
                message = {**message, "content": [{"type": "text", "text": content}]}
            elif isinstance(content, list) and all(part.get("type") == "text" for part in content):
                text = "".join(part["text"] for part in content)
                message = {**message, "content": [{"type": "text", "text": text}] if self._wants_parts else text}
            shaped.append(message)
        return shaped

    @functools.cached_property
    def _wants_parts(self) -> bool:
        """Whether it loses a text and finds it in a part: nothing but trying tells."""
        return self._may_want_parts and not self._shows(_PROBE) and self._shows([{"type": "text", "text": _PROBE}])

    def _shows(self, content: object) -> bool:
        try:
            return _PROBE in self._write([{"role": "user", "content": content}], [], {}, True)
        except TemplateError:
            return False


def load_chat_template(directory: Path) -> ChatTemplate | None:
    """The template of a model's folder, None when it has none; raises TemplateError when it cannot be used."""
    try:
        with ModelFolder(directory) as folder:
            files, _ = folder.list_entries()
            found = read_conversation_files(folder, files)
    except ModelRefused as error:
        raise TemplateError(error.message) from error
    return ChatTemplate(found.template, found.special_tokens, found.system) if found.template else None


class _GenerationBlock(jinja2.ext.Extension):
    """`{% generation %}…{% endgeneration %}` marks the assistant's words for training; here it is its content."""

    tags = {"generation"}

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.Scope(body).set_lineno(line)


class _Namespace(jinja2.utils.Namespace):
    """What templates keep state in, without the names that Python itself would look up and call on it."""

    def __init__(self, /, *args: Any, **kwargs: Any) -> None:
        attributes = dict(*args, **kwargs)
        for name in attributes:
            _refuse_underscored(name)
        super().__init__(attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_underscored(name)
        super().__setitem__(name, value)


def _refuse_underscored(name: object) -> None:
    if not isinstance(name, str) or name.startswith("_"):
        raise SecurityError(f"a namespace cannot hold {str(name)[:40]!r}")


def _environment() -> jinja2.sandbox.ImmutableSandboxedEnvironment:
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, jinja2.ext.loopcontrols]
    )
    for needless in ("lipsum", "cycler", "joiner"):
        del environment.globals[needless]
    environment.globals["namespace"] = _Namespace
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    environment.filters["tojson"] = _tojson
    return environment


def _raise_exception(message: object) -> NoReturn:
    raise jinja2.TemplateError(str(message))


def _strftime_now(format: str) -> str:
    return datetime.now().strftime(format)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As models were trained with: jinja2's own filter escapes HTML, which no tokenizer expects."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _limited(pieces: Iterator[str]) -> Iterator[str]:
    remaining = OUTPUT_CHARACTERS_MAX
    for piece in pieces:
        remaining -= len(piece)
        if remaining < 0:
            raise TemplateError(f"the chat template wrote more than {OUTPUT_CHARACTERS_MAX} characters")
        yield piece


def _template_error(error: Exception) -> TemplateError:
    match error:
        case MemoryError():
            message = "the chat template needs too much memory"
        case RecursionError():
            message = "the chat template is nested too deeply"
        case jinja2.TemplateSyntaxError():
            message = f"the chat template is malformed: {error.message} (line {error.lineno})"
        case jinja2.TemplateError():
            message = error.message or "the chat template refused these messages"
        case _:
            message = f"the chat template failed: {type(error).__name__}: {error}"
    return TemplateError(message[:MESSAGE_CHARACTERS_MAX])
