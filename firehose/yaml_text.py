"""A YAML text made into a `YamlFile`: plain values, and the line of each. The only file that loads the YAML library,
which the delivery half does without.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from firehose.yaml_file import ConfigError, Path, Problem, YamlFile

BARE_REFERENCE = re.compile(r"[{\[].*\$\{")
VALUES_LIMIT = 100_000  # of a file: anchors of anchors grow without end


def parse(name: str, text: str) -> YamlFile:
    """Reads one YAML document. Raises `ConfigError` where it is no YAML at all."""
    file = YamlFile(name, {})
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            file.data = _value(node, (), file)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        bare = line and BARE_REFERENCE.search("".join(text.splitlines()[line - 1 : line]))
        hint = "; within { } or [ ], put quotes around a value that holds ${...}" if bare else ""
        raise ConfigError(name, [Problem(line, "", f"not valid YAML: {error.problem}{hint}")]) from None
    except yaml.YAMLError as error:
        raise ConfigError(name, [Problem(0, "", f"not valid YAML: {error}")]) from None
    except RecursionError:
        raise ConfigError(name, [Problem(0, "", "is nested too deeply, or an anchor holds itself")]) from None
    return file


def _value(node: yaml.Node, path: Path, file: YamlFile) -> Any:
    file.lines[path] = node.start_mark.line + 1
    if len(file.lines) > VALUES_LIMIT:
        raise yaml.YAMLError(f"more than {VALUES_LIMIT} values, once its anchors are unfolded")
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, file)
    if isinstance(node, yaml.SequenceNode):
        return [_value(child, (*path, index), file) for index, child in enumerate(node.value)]
    return _scalar(node, path, file)


def _scalar(node: yaml.Node, path: Path, file: YamlFile) -> Any:
    try:
        value = yaml.SafeLoader("").construct_object(node)
        return _text(value) if isinstance(value, str) else value
    except yaml.YAMLError:
        raise
    except UnicodeError:
        file.complain(path, "holds half of a character; write the character itself")
    except Exception as error:  # such as a date of a 13th month: the library lets out whatever its parts raise
        file.complain(path, f"cannot be read as {node.tag.rpartition(':')[2]}: {error}")
    return None


def _text(value: str) -> str:
    """Joins what JSON writes as two escapes, and the library reads as two characters that are none. Raises
    UnicodeError where one stands alone.
    """
    return value.encode("utf-16", "surrogatepass").decode("utf-16")


def _mapping(node: yaml.MappingNode, path: Path, file: YamlFile) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, (key_node, child) in _members(node, path, file).items():
        values[name] = _value(child, (*path, name), file)
        file.lines[(*path, name)] = key_node.start_mark.line + 1
    return values


def _members(node: yaml.MappingNode, path: Path, file: YamlFile) -> dict[str, tuple[yaml.Node, yaml.Node]]:
    """The mapping's keys and values, merged ones (`<<`) included: a key of its own goes before a merged one."""
    _named(node, path, file, "this key is given twice; keep one")
    yaml.SafeLoader("").flatten_mapping(node)
    members = _named(node, path, file)
    node.value = list(members.values())  # an alias meets this node again, and must not take merged keys for its own
    return members


def _named(
    node: yaml.MappingNode, path: Path, file: YamlFile, doubled: str = ""
) -> dict[str, tuple[yaml.Node, yaml.Node]]:
    """Keys by name, the last one of a name; with `doubled`, each further one is complained of so."""
    members: dict[str, tuple[yaml.Node, yaml.Node]] = {}
    for key_node, child in node.value:
        try:
            name = _text(key_node.value)
        except (AttributeError, UnicodeError):
            file.lines[path] = key_node.start_mark.line + 1
            file.complain(path, "a key must be plain text")
            continue
        if doubled and name in members:
            file.lines[(*path, name)] = key_node.start_mark.line + 1
            file.complain((*path, name), doubled)
        members[name] = (key_node, child)
    return members
